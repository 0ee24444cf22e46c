import { expect, setDefaultTimeout, test } from "bun:test";
import { Gate, within } from "../support/deadline.ts";
import { target } from "../support/rest-operations.ts";
import { expectDone, RestStage } from "../support/rest-stage.ts";
import { ofConnection } from "../support/stack.ts";

/** The API while the service stops: the backend may have to answer clients that are still there. */
setDefaultTimeout(60_000);

const HEALTH = { method: "GET", target: "/api/health", token: null } as const;

test("every call is taken during shutdown.delayMs, though health says 503", async () => {
  const shutdown = { delayMs: 2000, spreadMs: 0, drainTimeoutMs: 10_000 };
  await using stage = await RestStage.start({ config: { shutdown } });
  const member = await stage.member({ user: "ada" });
  const names = { user: "ada", group: "red" };
  expectDone(await stage.call(HEALTH), 200);
  const stopped = stage.stack.gateway.stop();
  expectDone(await stage.call(HEALTH), 503);
  expect(await stage.ask("PUT", "add user to group", "chat", names)).toBe(202);
  expect(await stage.ask("GET", "group exists", "chat", names)).toBe(200);
  using newcomer = await stage.caller();
  const send = { method: "POST", target: target("send to group", "chat", names), type: "text/plain" };
  expectDone(await newcomer.call({ ...send, body: "still served" }), 202);
  expect(await member.client.nextText()).toBe("still served");
  expect((await member.client.closed()).code).toBe(1012);
  await within(stopped, "stop()");
});

test("a call that was under way when the listener stopped is answered, and reaches who is still there", async () => {
  await using stage = await RestStage.start();
  const { backend, gateway } = stage.stack;
  const [busy, idle] = [await stage.member({ groups: ["red"] }), await stage.member()];
  const gate = new Gate();
  backend.onMessage = async (exchange) => {
    await gate.opened;
    exchange.reply(200, [], "answered");
  };
  busy.client.text("question");
  await backend.next("message", ofConnection(busy.connectionId));
  using caller = await stage.caller();
  const send = { method: "POST", target: target("send to group", "chat", { group: "red" }), type: "text/plain" };
  caller.begin(send, "Content-Length: 9");
  caller.write("under ");
  // All that was sent before these has been read by now.
  for (let call = 0; call < 3; call++) expectDone(await stage.call(HEALTH), 200);
  const stopped = gateway.stop();
  expect((await idle.client.closed()).code).toBe(1012);
  caller.write("way");
  expectDone(await caller.answer("POST"), 202);
  expect(await busy.client.nextText()).toBe("under way");
  gate.open();
  expect(await busy.client.nextText()).toBe("answered");
  expect((await busy.client.closed()).code).toBe(1012);
  await within(stopped, "stop()");
});
