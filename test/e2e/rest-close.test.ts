import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { publishedPaths, target } from "../support/rest-operations.ts";
import { expectDone, type Member, RestStage } from "../support/rest-stage.ts";
import { ofConnection } from "../support/stack.ts";

/** PROTOCOL.md, "Closing", and the disconnect event that follows. */
setDefaultTimeout(60_000);

/** The socket is cut after this long at the latest; the disconnect event does not wait for it. */
const CUT_AFTER_MS = 2000;

let stage: RestStage;
beforeAll(async () => {
  stage = await RestStage.start();
});
afterAll(async () => {
  await stage.stop();
});

async function close(member: Member, query = "", hub = "chat"): Promise<void> {
  const path = target("close connection", hub, { connection: member.connectionId }, query);
  expectDone(await stage.call({ method: "DELETE", target: path }), 202);
}

const disconnectOf = (member: Member, deadlineMs?: number) =>
  stage.stack.backend.next("disconnect", ofConnection(member.connectionId), deadlineMs);

describe("closes with 1000 and the reason; the disconnect event tells both", () => {
  const rows = publishedPaths("close connection").map((row) => [row.template, row] as const);
  test.each(rows)("DELETE %s", async (_template, row) => {
    const hub = row.namesHub ? "chat" : "_default";
    const member = await stage.member({ hub, user: "ada", groups: ["g"] });
    const bystander = await stage.member({ hub, user: "ada", groups: ["g"] });
    const names = { connection: member.connectionId };
    expectDone(await stage.call({ method: "DELETE", target: row.target(hub, names, "reason=moved%20on") }), 202);
    expect(await member.client.closed()).toEqual({ code: 1000, reason: "moved on" });
    const disconnect = await disconnectOf(member);
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1000");
    expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("moved on");
    expect(disconnect.header("X-ASRS-User-Id")).toBe("ada");
    expect(await stage.ask("GET", "connection exists", hub, names)).toBe(404);
    expect(await stage.received(hub, bystander)).toEqual([[]]);
    bystander.client.destroy();
  });
});

describe("the reason", () => {
  test.each([
    ["left out", "", ""],
    ["empty", "reason=", ""],
    [
      "with awkward characters",
      `reason=${encodeURIComponent("a,b: 100% ünd #?&+ \u{1f600}")}`,
      "a,b: 100% ünd #?&+ \u{1f600}",
    ],
    ["of 123 bytes", `reason=${"x".repeat(123)}`, "x".repeat(123)],
    ["of 124 bytes", `reason=${"x".repeat(124)}`, "x".repeat(123)],
    ["of two-byte characters", `reason=${encodeURIComponent("ä".repeat(100))}`, "ä".repeat(61)],
    ["of three-byte characters", `reason=${encodeURIComponent(`x${"€".repeat(100)}`)}`, `x${"€".repeat(40)}`],
    ["of four-byte characters", `reason=${encodeURIComponent("\u{1f600}".repeat(50))}`, "\u{1f600}".repeat(30)],
    ["of 4,000 bytes", `reason=${"y".repeat(4000)}`, "y".repeat(123)],
  ])("%s arrives, cut to 123 bytes of whole characters", async (_what, query, reason) => {
    const member = await stage.member();
    await close(member, query);
    expect(await member.client.closed()).toEqual({ code: 1000, reason });
    const disconnect = await disconnectOf(member);
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1000");
    // Cut or whole is left open for the header; what the client saw must be there.
    const told = disconnect.header("X-Hubwire-Close-Reason") ?? "";
    expect(decodeURIComponent(told).startsWith(reason)).toBeTrue();
    if (reason === "") expect(told).toBe("");
  });

  test("is percent-encoded for the backend, like claims", async () => {
    const member = await stage.member();
    await close(member, `reason=${encodeURIComponent("a: b:c, 100% ü")}`);
    const disconnect = await disconnectOf(member);
    expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("a%3A b:c%2C 100%25 %C3%BC");
  });

  test("with a line break sets no header of its own", async () => {
    const member = await stage.member();
    await close(member, `reason=${encodeURIComponent("bye\r\nX-Evil: 1")}`);
    const disconnect = await disconnectOf(member);
    expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("bye%0D%0AX-Evil%3A 1");
    expect(disconnect.head.names).not.toContain("X-Evil");
  });
});

describe("the disconnect event", () => {
  test("follows though the client never answers the close frame, before the socket would be cut", async () => {
    const member = await stage.member();
    await close(member, "reason=bye");
    const startedAtMs = performance.now();
    expect(await member.client.closed()).toEqual({ code: 1000, reason: "bye" });
    await disconnectOf(member, CUT_AFTER_MS);
    expect(performance.now() - startedAtMs).toBeLessThan(CUT_AFTER_MS);
    await member.client.ended();
  });

  test("comes once, after the queued messages, when the call is made twice", async () => {
    const member = await stage.member({ user: "twice" });
    member.client.text("first", "second");
    await stage.stack.backend.next("message", ofConnection(member.connectionId));
    await close(member);
    await close(member);
    await disconnectOf(member);
    await stage.stack.cycle();
    const events = stage.stack.backend.requests.filter(ofConnection(member.connectionId));
    expect(events.filter(({ event }) => event === "disconnect").length).toBe(1);
    expect(events.at(-1)?.event).toBe("disconnect");
  });

  test("of a client that does not read follows when its socket is cut, which is soon", async () => {
    const member = await stage.member({ user: "deaf" });
    member.client.pauseReading();
    // More than the kernel takes, so that the close frame stays behind what was not read.
    const body = Buffer.alloc(256 * 1024, "x");
    const path = target("send to connection", "chat", { connection: member.connectionId });
    for (let sent = 0; sent < 48; sent++) {
      const answer = await stage.call({ method: "POST", target: path, type: "application/octet-stream", body });
      expectDone(answer, 202);
    }
    expect(await stage.ask("GET", "connection exists", "chat", { connection: member.connectionId })).toBe(200);
    const startedAtMs = performance.now();
    await close(member, "reason=deaf");
    const disconnect = await disconnectOf(member);
    expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1000");
    expect(disconnect.header("X-Hubwire-Close-Reason")).toBe("deaf");
    expect(performance.now() - startedAtMs).toBeLessThan(2 * CUT_AFTER_MS);
    // Bytes sent to a socket that is gone are answered by a reset, which shows although nothing is read.
    let isCut = false;
    void member.client.stream.ended.then(() => {
      isCut = true;
    });
    await stage.until(async () => {
      if (!isCut) member.client.text("anybody?");
      return isCut;
    });
    expect(performance.now() - startedAtMs).toBeLessThan(3 * CUT_AFTER_MS);
  });
});

describe("a message sent before the close", () => {
  test("arrives before it, and one sent after it does not arrive", async () => {
    const member = await stage.member();
    const names = { connection: member.connectionId };
    await stage.send("send to connection", "chat", names, "last words");
    await close(member, "reason=done");
    await stage.send("send to connection", "chat", names, "too late");
    expect(await member.client.nextText()).toBe("last words");
    expect(await member.client.closed()).toEqual({ code: 1000, reason: "done" });
    await member.client.ended();
    expect(member.client.stream.leftover.length).toBe(0);
  });
});

test.each(["no-such-connection-0123456789", "x", "a/b"])("closing the unknown connection %j is 202", async (id) => {
  const path = target("close connection", "chat", { connection: id }, "reason=who");
  expectDone(await stage.call({ method: "DELETE", target: path }), 202);
});

test("a client that left already has one disconnect event, and a later close adds none", async () => {
  const member = await stage.member();
  member.client.close(1001, "gone");
  const disconnect = await disconnectOf(member);
  expect(disconnect.header("X-Hubwire-Close-Code")).toBe("1001");
  await close(member, "reason=late");
  await stage.stack.cycle();
  expect(stage.stack.backend.of("disconnect", ofConnection(member.connectionId)).length).toBe(1);
});
