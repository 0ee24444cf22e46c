import { afterEach, expect, test } from "bun:test";
import type { Server } from "bun";
import { within } from "../../test/support/deadline.ts";
import { RawWebSocket } from "../../test/support/raw-websocket.ts";
import { type Acceptor, PortHolder } from "./port-holder.ts";

interface Opened extends Acceptor {
  readonly port: number;
  readonly stops: (boolean | undefined)[];
  readonly ended: Promise<void>;
}

const opened: Opened[] = [];
afterEach(async () => {
  for (const one of opened.splice(0)) await one.stop(true);
});

/** A real server that counts how it was stopped. `ended`: it was told to stop, and its last connection has ended. */
function open(port = 0): Opened {
  const server: Server<undefined> = Bun.serve({
    hostname: "127.0.0.1",
    port,
    reusePort: true,
    fetch: (request): Response | undefined => (server.upgrade(request) ? undefined : new Response("here")),
    websocket: { message: (ws, text) => void ws.send(text) },
  });
  const stops: (boolean | undefined)[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const stop = (isHard?: boolean) => {
    stops.push(isHard);
    return server.stop(isHard).then(resolve);
  };
  const one = { port: server.port ?? 0, stops, stop, ended: promise };
  opened.push(one);
  return one;
}

test("one that hands over is forgotten when its last connection has ended, and not before", async () => {
  const first = open();
  const client = await RawWebSocket.open({ port: first.port });
  const holder = new PortHolder(first);
  const second = open(first.port);
  holder.handOver(second, { isSteered: false, lingerMs: 60_000 });
  expect([holder.current, ...holder.earlier]).toEqual([second, first]);
  expect(first.stops).toEqual([undefined]);
  client.text("here?");
  expect(await client.nextText()).toBe("here?");
  expect([...holder.earlier]).toEqual([first]);
  client.destroy();
  await within(first.ended, "the end of the first one");
  expect(holder.earlier.size).toBe(0);
});

test("where new connections are steered it accepts for as long as it lingers", async () => {
  const first = open();
  const holder = new PortHolder(first);
  const second = open(first.port);
  holder.handOver(second, { isSteered: true, lingerMs: 1 });
  expect(first.stops).toEqual([]);
  await within(first.ended, "the end of its linger");
  expect(first.stops).toEqual([undefined]);
  expect(holder.earlier.size).toBe(0);
});

test("no more than two accept at a time, and an end of accepting is one for all", async () => {
  const first = open();
  const holder = new PortHolder(first);
  for (let renewal = 0; renewal < 2; renewal++) {
    holder.endLinger();
    holder.handOver(open(first.port), { isSteered: true, lingerMs: 60_000 });
  }
  expect(opened.map(({ stops }) => stops.length)).toEqual([1, 0, 0]);
  holder.stopAccepting();
  expect(opened.map(({ stops }) => stops.length)).toEqual([1, 1, 1]);
  await holder.stop();
});
