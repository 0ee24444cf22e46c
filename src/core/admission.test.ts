import { describe, expect, test } from "bun:test";
import { CoreStage, connectRequest, PATIENT, someFacts } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import {
  answer,
  groupsHeader,
  notSent,
  refused,
  type Scripted,
  UNROUTED,
  unknown,
  userHeader,
} from "../../test/support/scripted-upstream.ts";
import type { HeaderLine } from "../protocol/headers.ts";
import type { Admitted } from "./admission.ts";
import { GroupNames } from "./group-names.ts";

const BOB = userHeader("bob");
const HEADERS = new Headers({ Cookie: "a=1" });

function ask(stage: CoreStage, userId: string | null = null, connectionId = "c1", client = PATIENT): Promise<Admitted> {
  const asked = { client, subprotocols: "v1", certThumbprint: "AB".repeat(20), headers: HEADERS };
  return stage.admission.connect(connectRequest(someFacts({ connectionId, userId }), asked));
}

function accepted(admitted: Admitted) {
  if (admitted.kind !== "accept") throw new Error(`it is ${admitted.kind}`);
  return admitted;
}

describe("asking the upstream", () => {
  test("posts the connect event with what the request brought", async () => {
    const stage = new CoreStage();
    await ask(stage);
    const event = stage.upstream.calls[0]?.event;
    expect(event).toMatchObject({
      name: "connect",
      eventId: "c1.connect",
      subprotocols: "v1",
      certThumbprint: "AB".repeat(20),
    });
    expect(event).toHaveProperty("headers", HEADERS);
  });

  test("is left undone for a client that may not connect any more by the options in force then", async () => {
    const stage = new CoreStage();
    const refusal = { status: 403, code: "origin_denied", message: "no", target: "Origin", headers: {} } as const;
    let written = false;
    const asked = { checkAgain: () => (written ? refusal : null) };
    const admitted = stage.admission.connect(connectRequest(someFacts({ connectionId: "c1" }), asked));
    written = true;
    expect(await admitted).toEqual({ kind: "refuse", refusal });
    await settled();
    expect([stage.upstream.calls, stage.outstanding.count]).toEqual([[], 0]);
  });

  test("an accepted connection has user, groups, subprotocol and first message, and stays outstanding", async () => {
    const stage = new CoreStage();
    const headers: HeaderLine[] = [BOB, groupsHeader("g"), ["Sec-WebSocket-Protocol", "v1"]];
    stage.upstream.script = () => answer(200, headers, "hi");
    const { connection, subprotocol, payload } = accepted(await ask(stage, "alice"));
    expect([connection.userId, connection.groups, subprotocol, payload]).toEqual([
      "bob",
      new GroupNames(["g"]),
      "v1",
      { type: "text", data: "hi" },
    ]);
    expect(stage.outstanding.count).toBe(1);
    const { leave } = stage.enter(connection);
    await leave();
    expect(stage.upstream.of("disconnect").map(({ userId }) => userId)).toEqual(["bob"]);
    expect(stage.outstanding.count).toBe(0);
  });

  test("a connection without a group owns no set for them", async () => {
    expect(accepted(await ask(new CoreStage(), "alice")).connection.groups).toBeNull();
  });

  test.each([
    ["4xx", answer(403)],
    ["5xx", answer(500)],
    ["not sent", notSent()],
    ["refused", refused()],
    ["no entry and no user", UNROUTED],
  ])("after %s nothing more is sent, and nothing is outstanding", async (_what, outcome) => {
    const stage = new CoreStage();
    stage.upstream.script = () => outcome;
    expect((await ask(stage)).kind).not.toBe("accept");
    await settled();
    expect(stage.upstream.labels).toEqual(["connect"]);
    expect(stage.outstanding.count).toBe(0);
  });

  test.each([
    ["2xx without a user", answer(200), false],
    ["2xx with a bad subprotocol", answer(200, [BOB, ["Sec-WebSocket-Protocol", ""]]), false],
    ["2xx and then nothing", unknown({ status: 200 }), false],
    ["no status", unknown(), true],
  ])("after %s the disconnect follows with 1006 `handshake failed`", async (_what, outcome, connectOutcomeUnknown) => {
    const stage = new CoreStage();
    stage.upstream.script = ({ name }) => (name === "connect" ? outcome : answer(204));
    expect((await ask(stage)).kind).toBe("refuse");
    await settled();
    expect(stage.upstream.labels).toEqual(["connect", "disconnect"]);
    expect(stage.upstream.of("disconnect")[0]?.event).toMatchObject({
      eventId: "c1.disconnect",
      closeCode: 1006,
      closeReason: "handshake failed",
      connectOutcomeUnknown,
    });
    expect(stage.outstanding.count).toBe(0);
  });

  test("a client that waits is not kept waiting for the disconnect", async () => {
    const stage = new CoreStage();
    stage.upstream.script = ({ name }) => (name === "connect" ? answer(200) : null);
    expect((await ask(stage)).kind).toBe("refuse");
    expect(stage.outstanding.count).toBe(1);
    stage.upstream.settleFirst(answer(204));
    await settled();
    expect(stage.outstanding.count).toBe(0);
  });

  test("a handshake that failed after all is told of by a disconnect", async () => {
    const stage = new CoreStage();
    const { connection } = accepted(await ask(stage, "alice"));
    stage.admission.handshakeFailed(connection);
    await settled();
    expect(stage.upstream.of("disconnect")[0]?.event).toMatchObject({ closeReason: "handshake failed" });
    expect(stage.outstanding.count).toBe(0);
  });

  test("what could not be delivered is reported; an event with any answer has been delivered", async () => {
    const stage = new CoreStage();
    for (const [outcome, lines] of [
      [answer(404), 0],
      [answer(200), 0],
      [answer(500), 0],
      [notSent(), 1],
    ] as const) {
      stage.upstream.script = ({ name }) => (name === "connect" ? outcome : answer(204));
      await ask(stage);
      expect(stage.report.lost).toHaveLength(lines);
    }
    expect(stage.report.lost[0]).toMatchObject({
      event: "connect",
      eventId: "c1.connect",
      connectionId: "c1",
      hub: "chat",
    });
  });

  test("a bug in hubwire leaves nothing outstanding, and sends the disconnect: the upstream may have said 2xx", async () => {
    const stage = new CoreStage();
    stage.upstream.script = ({ name }) => {
      if (name === "connect") throw new Error("a bug");
      return answer(204);
    };
    await expect(ask(stage)).rejects.toThrow("a bug");
    await settled();
    expect(stage.upstream.of("disconnect").map(({ event }) => event)).toMatchObject([
      { closeCode: 1006, closeReason: "handshake failed", connectOutcomeUnknown: true },
    ]);
    expect(stage.outstanding.count).toBe(0);
  });

  test("a refusal that answers a repeat is followed by a disconnect of unknown outcome", async () => {
    const stage = new CoreStage();
    stage.upstream.script = ({ name }) =>
      name === "connect" ? ({ ...answer(403), wasRepeated: true } as Scripted) : answer(204);
    expect(await ask(stage, "alice")).toMatchObject({ kind: "relay", status: 403 });
    await settled();
    expect(stage.upstream.of("disconnect").map(({ event }) => event)).toMatchObject([{ connectOutcomeUnknown: true }]);
    expect(await leftBehind(stage)).toEqual([]);
    expect(stage.outstanding.count).toBe(0);
  });
});

describe("closing while the upstream is asked", () => {
  test("what it accepts is refused with 503, and its disconnect is sent", async () => {
    const stage = new CoreStage();
    stage.upstream.script = ({ name }) => (name === "connect" ? null : answer(204));
    const asked = ask(stage, "alice");
    await settled();
    stage.admission.close();
    stage.upstream.settleFirst(answer(200, [BOB]));
    expect(await asked).toMatchObject({ kind: "refuse", refusal: { status: 503, code: "shutting_down" } });
    await settled();
    expect(stage.upstream.labels).toEqual(["connect", "disconnect"]);
    expect(stage.upstream.of("disconnect")[0]?.userId).toBe("bob");
    expect(stage.outstanding.count).toBe(0);
  });

  test("what it refuses is the client's answer as ever", async () => {
    const stage = new CoreStage();
    stage.upstream.script = () => null;
    const asked = ask(stage);
    await settled();
    stage.admission.close();
    stage.upstream.settleFirst(answer(403, [], "no"));
    expect(await asked).toMatchObject({ kind: "relay", status: 403 });
    expect(stage.outstanding.count).toBe(0);
  });
});

/** What the next start would find in the journal. */
async function leftBehind(stage: CoreStage) {
  await stage.journal.recover({ code: 1006, reason: "gateway restarted" }, 0);
  return Promise.all((await stage.journal.waiting(0, 10)).map(({ connectionId }) => stage.journal.read(connectionId)));
}

describe("the journal", () => {
  test("has the connection before the upstream hears of it, its outcome unknown, all facts kept", async () => {
    const stage = new CoreStage();
    const written: string[] = [];
    const { connecting } = stage.journal;
    const gate = Promise.withResolvers<void>();
    stage.journal.connecting = async (facts) => {
      await gate.promise;
      written.push(facts.connectionId);
      await connecting.call(stage.journal, facts);
    };
    stage.upstream.script = () => null;
    void ask(stage, "alice");
    await settled();
    expect([written, stage.upstream.calls]).toEqual([[], []]);
    gate.resolve();
    await settled();
    expect([written, stage.upstream.labels]).toEqual([["c1"], ["connect"]]);
    expect(await leftBehind(stage)).toMatchObject([
      { facts: someFacts({ connectionId: "c1", userId: "alice" }), connectOutcomeUnknown: true },
    ]);
  });

  test("has the user before the client is let in", async () => {
    const stage = new CoreStage();
    const gate = Promise.withResolvers<void>();
    const { connected } = stage.journal;
    stage.journal.connected = async (id, userId) => {
      await gate.promise;
      await connected.call(stage.journal, id, userId);
    };
    stage.upstream.script = () => answer(200, [BOB]);
    const state = { done: false };
    const asked = ask(stage).finally(() => {
      state.done = true;
    });
    await settled();
    expect(state.done).toBe(false);
    gate.resolve();
    expect((await asked).kind).toBe("accept");
    expect(await leftBehind(stage)).toMatchObject([{ facts: { userId: "bob" }, connectOutcomeUnknown: false }]);
  });

  test.each([
    ["a 4xx", answer(403)],
    ["a 5xx", answer(500)],
    ["what was not sent", notSent()],
    ["an open breaker", refused()],
  ])("forgets the connection after %s", async (_what, outcome) => {
    const stage = new CoreStage();
    stage.upstream.script = () => outcome;
    expect((await ask(stage)).kind).not.toBe("accept");
    await settled();
    expect(await leftBehind(stage)).toEqual([]);
  });

  test("that cannot take the connection lets nobody in, the upstream is not asked, and nothing is to be taken back", async () => {
    const stage = new CoreStage();
    const taken: string[] = [];
    stage.journal.settled = async (id) => void taken.push(id);
    stage.journal.connecting = () => Promise.reject(new Error("disk full"));
    expect(await ask(stage, "alice")).toMatchObject({
      kind: "refuse",
      refusal: { status: 503, code: "journal_unavailable", headers: { "Retry-After": "1" } },
    });
    await settled();
    expect([stage.upstream.calls, stage.outstanding.count, taken]).toEqual([[], 0, []]);
  });

  test("that cannot take the user lets nobody in, and the disconnect is sent", async () => {
    const stage = new CoreStage();
    stage.journal.connected = () => Promise.reject(new Error("disk full"));
    stage.upstream.script = () => answer(200, [BOB]);
    expect(await ask(stage)).toMatchObject({ kind: "refuse", refusal: { code: "journal_unavailable" } });
    await settled();
    expect(stage.upstream.of("disconnect").map(({ userId }) => userId)).toEqual(["bob"]);
    expect(await leftBehind(stage)).toEqual([]);
    expect(stage.outstanding.count).toBe(0);
  });

  test("a service that stops while it is written asks nobody", async () => {
    const stage = new CoreStage();
    const asked = ask(stage, "alice");
    stage.admission.close();
    expect(await asked).toMatchObject({ kind: "refuse", refusal: { code: "shutting_down" } });
    await settled();
    expect([stage.upstream.calls, stage.outstanding.count]).toEqual([[], 0]);
    expect(await leftBehind(stage)).toEqual([]);
  });
});

describe("a client that leaves", () => {
  const leaver = () => ({ hasLeft: false });

  test("before the upstream is asked: nothing is posted, reported as lost or kept", async () => {
    const stage = new CoreStage();
    expect(await ask(stage, "alice", "c1", { hasLeft: true })).toEqual({ kind: "left" });
    await settled();
    expect([stage.upstream.calls, stage.report.lost, stage.outstanding.count]).toEqual([[], [], 0]);
    expect(await leftBehind(stage)).toEqual([]);
  });

  test("whose event was not sent: no disconnect follows, and the journal forgets it", async () => {
    const stage = new CoreStage();
    const client = leaver();
    stage.upstream.script = () => {
      client.hasLeft = true;
      return notSent();
    };
    expect(await ask(stage, "alice", "c1", client)).toEqual({ kind: "left" });
    await settled();
    expect([stage.upstream.labels, stage.report.lost, stage.outstanding.count]).toEqual([["connect"], [], 0]);
    expect(await leftBehind(stage)).toEqual([]);
  });

  test("whose event was sent is accepted, and so owed a disconnect", async () => {
    const stage = new CoreStage();
    const client = leaver();
    stage.upstream.script = () => {
      client.hasLeft = true;
      return answer(204);
    };
    accepted(await ask(stage, "alice", "c1", client));
  });
});

test("stop leaves no timer", () => {
  const stage = new CoreStage({ connectsPerSecondPerAddress: 5 });
  expect(stage.clock.timerCount).toBeGreaterThan(0);
  stage.stop();
  expect(stage.clock.timerCount).toBe(0);
});

test("once closed, asks the upstream no more: nobody would wait for the disconnect that its 2xx calls for", async () => {
  const stage = new CoreStage();
  stage.admission.reserve("a");
  stage.admission.close();
  const facts = someFacts({ userId: "alice" });
  const admitted = await stage.admission.connect(connectRequest(facts));
  expect(admitted).toMatchObject({ kind: "refuse", refusal: { status: 503, code: "shutting_down" } });
  expect(stage.upstream.labels).toEqual([]);
});
