import { expect, setDefaultTimeout, test } from "bun:test";
import { target } from "../support/rest-operations.ts";
import { RestStage } from "../support/rest-stage.ts";

/** PROTOCOL.md, "REST API": how long a connection for calls is kept. Real seconds, since Bun counts them. */
setDefaultTimeout(60_000);

const SEND = { method: "POST", target: target("broadcast", "chat"), type: "text/plain", body: "hello" };

test("every answer of the API and of health says for how long its connection is kept", async () => {
  await using stage = await RestStage.start();
  const calls = [
    SEND,
    { ...SEND, token: null },
    { ...SEND, type: "x/y" },
    { method: "GET", target: "/api/health" },
    { method: "GET", target: "/nothing", token: null },
  ];
  for (const call of calls) {
    const { head } = await stage.call(call);
    expect([head.all("connection"), head.all("keep-alive")]).toEqual([["keep-alive"], ["timeout=75"]]);
  }
  const { head } = await stage.call({ ...SEND, body: new Uint8Array(1_048_577) });
  expect([head.all("connection"), head.all("keep-alive")]).toEqual([["close"], []]);
});

test("keepAliveMs is how long both listeners keep a connection over which nothing comes, and at most 8 s more", async () => {
  const isKept = async (api: Readonly<Record<string, unknown>>) => {
    await using stage = await RestStage.start({ config: { listen: { port: 0, keepAliveMs: 1000, ...api } } });
    const caller = await stage.caller();
    const { status, head } = await caller.call(SEND);
    expect([status, ...head.all("keep-alive")]).toEqual([202, "timeout=1"]);
    const answeredAt = performance.now();
    expect(await caller.ended()).toBe("fin");
    expect(performance.now() - answeredAt).toBeGreaterThanOrEqual(1000);
  };
  await Promise.all([isKept({}), isKept({ api: { port: 0 } })]);
});
