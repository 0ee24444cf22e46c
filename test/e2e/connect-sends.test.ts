import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { OPCODE } from "../support/frame-codec.ts";
import type { Exchange } from "../support/raw-backend.ts";
import { RestClient } from "../support/rest-client.ts";
import { type Action, target } from "../support/rest-operations.ts";
import { connectionIdOf, Stack } from "../support/stack.ts";

/** PROTOCOL.md, "connect": what a backend sends around its 2xx, before the client has its WebSocket. */
setDefaultTimeout(60_000);

let stack: Stack;
let callers: RestClient[];
beforeAll(async () => {
  // The disk is waited for between the 2xx and the 101, so that the calls below arrive in between.
  stack = await Stack.start({ config: { journal: { synchronous: "full" } } });
  callers = await Promise.all([0, 1, 2, 3].map(() => RestClient.dial(stack.port)));
});
afterAll(async () => {
  for (const caller of callers) caller.destroy();
  await stack.stop();
});

function accept(exchange: Exchange, id: string): void {
  const groups = [`X-ASRS-Connection-Group: g-${id}`];
  exchange.reply(200, [`X-ASRS-User-Id: u-${id}`, ...groups, "Content-Type: text/plain"], "first");
}

async function call(method: string, path: string, body?: string): Promise<number> {
  const [caller] = callers;
  if (caller === undefined) throw new Error("there is no caller");
  return (await caller.call({ method, target: path, type: "text/plain", ...(body === undefined ? {} : { body }) }))
    .status;
}

const ROUNDS = 15;
const SENDS: readonly Action[] = ["send to connection", "send to user", "send to group", "broadcast"];

test("what is sent right after the 2xx arrives, by connection, user, group and hub, behind the answer's own message", async () => {
  for (let round = 0; round < ROUNDS; round++) {
    const sent = Promise.withResolvers<number[]>();
    stack.backend.onConnect = (exchange) => {
      const id = connectionIdOf(exchange.request);
      accept(exchange, id);
      // The answer is on its way. The calls go out as soon as the gateway has read it, or with it.
      setImmediate(async () => {
        const statuses: number[] = [];
        for (const action of SENDS) {
          const names = { connection: id, user: `u-${id}`, group: `g-${id}` };
          statuses.push(await call("POST", target(action, "chat", names), action));
        }
        sent.resolve(statuses);
      });
    };
    const client = await stack.open();
    expect(await sent.promise).toEqual([202, 202, 202, 202]);
    const texts: string[] = [];
    for (let count = 0; count < 5; count++) texts.push(await client.nextText());
    expect(texts).toEqual(["first", ...SENDS]);
    client.close(1000);
    await client.ended();
  }
});

test("what is sent to the connection's id before the answer arrives too, behind the answer's own message", async () => {
  stack.backend.onConnect = async (exchange) => {
    const id = connectionIdOf(exchange.request);
    expect(await call("POST", target("send to connection", "chat", { connection: id }), "early")).toBe(202);
    accept(exchange, id);
  };
  const client = await stack.open();
  expect([await client.nextText(), await client.nextText()]).toEqual(["first", "early"]);
  client.destroy();
});

test("what was sent to a client that the backend then refuses is dropped", async () => {
  stack.backend.onConnect = async (exchange) => {
    const id = connectionIdOf(exchange.request);
    await call("POST", target("send to connection", "chat", { connection: id }), "early");
    exchange.reply(403);
  };
  const client = await stack.request();
  expect((await client.answer()).status).toBe(403);
});

test("a join, a question and a close right after the 2xx hold: the client gets its 101, what was sent, and the close", async () => {
  const done = Promise.withResolvers<number[]>();
  stack.backend.onConnect = (exchange) => {
    const id = connectionIdOf(exchange.request);
    accept(exchange, id);
    setImmediate(async () => {
      const names = { connection: id, group: "late" };
      // Until hubwire has read the answer, there is nobody of this id.
      while ((await call("HEAD", target("connection exists", "chat", names))) !== 200);
      done.resolve([
        await call("PUT", target("add connection to group", "chat", names)),
        await call("POST", target("send to group", "chat", names), "to the group"),
        await call("DELETE", `${target("close connection", "chat", names)}?reason=enough`),
      ]);
    });
  };
  const client = await stack.open();
  expect(await done.promise).toEqual([200, 202, 202]);
  expect([await client.nextText(), await client.nextText()]).toEqual(["first", "to the group"]);
  const { opcode, payload } = await client.frame();
  expect([opcode, payload.readUInt16BE(), payload.subarray(2).toString()]).toEqual([OPCODE.close, 1000, "enough"]);
});
