import { afterEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { makeCertificates } from "../../test/support/certificates.ts";
import { until, within } from "../../test/support/deadline.ts";
import { needs } from "../../test/support/programs.ts";
import { type BackendTls, RawBackend } from "../../test/support/raw-backend.ts";
import {
  bodyOf,
  type CallEnd,
  messageEvent,
  realClock,
  startUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import { Destination, resolveBySystem } from "./destination.ts";
import { Exchange } from "./exchange.ts";
import { HttpSocket } from "./http-socket.ts";
import { RequestRoom } from "./request-bytes.ts";

/** Requests and answers of one turn of the event loop go together: none may be mixed with another. */

const stack: (() => Promise<unknown> | unknown)[] = [];

afterEach(async () => {
  for (const end of stack.splice(0).reverse()) await end();
});

async function echoing(tls: BackendTls | null = null): Promise<RawBackend> {
  const backend = await RawBackend.start(tls === null ? {} : { tls });
  backend.onOther = (exchange) =>
    exchange.reply(200, ["Content-Type: application/octet-stream"], exchange.request.body);
  stack.push(() => backend.stop());
  return backend;
}

/** Bytes that differ for every seed, at every place. */
function bytesOf(seed: number, length: number): Uint8Array {
  let state = seed * 2_654_435_761 + 1;
  return Uint8Array.from({ length }, () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state >>> 16;
  });
}

describe("messages of one turn", () => {
  test.each([
    ["that all fit their room", 40, 100],
    ["that fill their room several times", 60, 16_384],
    ["of which none fits it", 4, 400_000],
  ])("%s arrive as they are, and each gets its own answer, turn after turn", async (_what, count, length) => {
    const backend = await echoing();
    await using upstream = startUpstream([upstreamEntry(`${backend.url}/{event}`)]);
    for (let turn = 0; turn < 4; turn++) {
      const bodies = Array.from({ length: count }, (_empty, index) => bytesOf(turn * count + index, length));
      const outcomes = await within(
        Promise.all(bodies.map((body) => upstream.call(messageEvent(body)))),
        "the answers",
      );
      for (const [index, outcome] of outcomes.entries()) {
        expect(bodyOf(outcome).equals(bodies[index] ?? new Uint8Array())).toBe(true);
      }
    }
    expect(backend.requests).toHaveLength(4 * count);
  });
});

needs("openssl").test("a message that waits for its connection is not written over by the next turn's", async () => {
  const certificates = makeCertificates();
  stack.push(() => certificates.remove());
  // A handshake takes several turns.
  const backend = await echoing({ cert: certificates.server.cert, key: certificates.server.key });
  const tls = { caFile: certificates.authority.certFile, certFile: null, keyFile: null };
  await using upstream = startUpstream([upstreamEntry(`${backend.url}/{event}`, { tls })]);
  await upstream.call(messageEvent("a socket that is kept"));
  const bodies = [bytesOf(1, 1000), bytesOf(2, 1000), bytesOf(3, 50_000)];
  const outcomes: Promise<CallEnd>[] = [];
  for (const body of bodies) {
    outcomes.push(upstream.call(messageEvent(body)));
    // The first goes out over the kept socket with this turn's end; the second has none yet, and the third comes after it.
    if (outcomes.length === 2) await new Promise((resolve) => setImmediate(resolve));
  }
  for (const [index, outcome] of (await Promise.all(outcomes)).entries()) {
    expect(bodyOf(outcome).equals(bodies[index] ?? new Uint8Array())).toBe(true);
  }
});

test("what the kernel does not take at once is not written over either", () => {
  const room = new RequestRoom();
  room.bytes.write("the request of this turn", "latin1");
  let heldBytes = 0;
  const written: string[] = [];
  const pool = {
    maxBodyBytes: 10,
    room,
    hold: (byteCount: number) => {
      heldBytes += byteCount;
    },
    fits: () => true,
    silentSockets: null,
    onReusable() {},
    answerSoon() {},
    onGone() {},
    onStale() {},
  };
  const owner = {
    mayRepeat: false,
    isEventId: () => true,
    readsBody: () => true,
    formatRequest: () => room.bytes,
    onExchangeEnd() {},
  };
  const exchange = new Exchange(owner, room.bytes, 4, 11);
  const destination = new Destination({
    hostname: "127.0.0.1",
    allowed: null,
    resolve: resolveBySystem,
    clock: realClock,
  });
  const peer = { destination, port: 1, tls: null, clock: realClock, files: null };
  const socket = new HttpSocket({ ...pool, flushSoon: (due) => due.flush() }, peer, exchange);
  // A socket whose kernel takes three bytes at a time, which none does on demand.
  const kernel = {
    write(bytes: Uint8Array, start: number, length: number): number {
      written.push(Buffer.from(bytes).toString("latin1", start, start + Math.min(3, length)));
      return Math.min(3, length);
    },
    terminate() {},
  };
  socket.onOpen(kernel as unknown as Parameters<HttpSocket["onOpen"]>[0]);
  room.bytes.fill("x");
  expect(heldBytes).toBe("uest".length);
  for (let drains = 0; drains < 3; drains++) socket.flush();
  expect(written).toEqual(["req", "ues", "t"]);
  expect([heldBytes, exchange.bytes.length]).toEqual([0, 0]);
  socket.stop();
});

describe("the end of a posted message", () => {
  test("is told never before post returns, with any end", async () => {
    const backend = await echoing();
    const upstream = startUpstream([
      upstreamEntry(`${backend.url}/{event}`, { hubPattern: ["Chat"] }),
      upstreamEntry("http://127.0.0.1:1/", { hubPattern: ["full"], maxConcurrency: 1, maxWaitMs: 0 }),
    ]);
    stack.push(() => upstream.stop());
    const kinds: string[] = [];
    const post = (hub: string) => {
      let hasReturned = false;
      upstream.post(messageEvent("x", { hub }), {
        onReply: () => void kinds.push(`${hub} answer ${hasReturned}`),
        onFailure: ({ kind }, entry) => void kinds.push(`${hub} ${kind} ${hasReturned} ${entry?.label ?? "no entry"}`),
        onFault: (bug) => void kinds.push(String(bug)),
      });
      hasReturned = true;
    };
    for (const hub of ["Chat", "full", "full", "nowhere"]) post(hub);
    await until(() => kinds.length === 4, "all ends");
    expect(kinds.sort()).toEqual([
      "Chat answer true",
      "full not-sent true upstreams[1] http://127.0.0.1:1/",
      "full refused true upstreams[1] http://127.0.0.1:1/",
      "nowhere unrouted true no entry",
    ]);
  });

  test("is abandoned, not answered, where it is given up in the turn that brought the answer", async () => {
    const backend = await echoing();
    const upstream = startUpstream([upstreamEntry(`${backend.url}/{event}`)], { clock: realClock });
    stack.push(() => upstream.stop());
    const told: string[] = [];
    const tell = (end: string) => {
      told.push(end);
      // The first to be told of its answer gives up all others, whose answers may have come too.
      upstream.abandonMessages();
    };
    const post = (name: string) =>
      upstream.post(messageEvent(name), {
        onReply: () => tell("answer"),
        onFailure: (failure) => tell(failure.kind === "unknown" ? failure.cause : failure.kind),
        onFault: (bug) => void told.push(String(bug)),
      });
    for (let index = 0; index < 30; index++) post(`message ${index}`);
    await until(() => told.length === 30, "all ends");
    expect(told.filter((kind) => kind === "answer")).toEqual(["answer"]);
    expect(told.filter((kind) => kind === "abandoned")).toHaveLength(29);
  });
});

test("a bug in the handling of one answer of a turn does not affect the others", async () => {
  const script = `
    import { messageEvent, startUpstream, upstreamEntry } from ${JSON.stringify(join(import.meta.dir, "../../test/support/upstream/fixture.ts"))};
    process.on("uncaughtException", ({ message }) => console.log(message));
    const COUNT = 8;
    const asking = [];
    const answer = "HTTP/1.1 204 No Content\\r\\n\\r\\n";
    const data = (socket) => {
      asking.push(socket);
      if (asking.length === COUNT) for (const each of asking) each.write(answer);
    };
    const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data } });
    const upstream = startUpstream([upstreamEntry("http://127.0.0.1:" + server.port + "/{event}")]);
    let told = 0;
    for (let number = 0; number < COUNT; number++) {
      const onReply = () => {
        told++;
        if (told === COUNT) setImmediate(() => process.exit(0));
        if (told === 3) throw new Error("a bug");
        console.log("told");
      };
      upstream.post(messageEvent(), { onReply, onFailure: () => console.log("failure"), onFault: () => console.log("fault") });
    }
    setTimeout(() => process.exit(1), 10_000);
  `;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" });
  const lines = (await new Response(child.stdout).text()).trim().split("\n");
  expect(lines).toEqual(["told", "told", "a bug", "told", "told", "told", "told", "told"]);
});
