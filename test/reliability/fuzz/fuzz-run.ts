import { closePayload, encodeFrame, OPCODE } from "../../support/frame-codec.ts";
import { RawWebSocket, statusOf } from "../../support/raw-websocket.ts";
import { Dice } from "../support/dice.ts";
import { type Call, Ledger, LedgerBackend, orderly, type Reply } from "../support/ledger-backend.ts";
import { type IndexName, type Probe, ProbedGateway } from "../support/probed-gateway.ts";
import { checkServerFrames, framesOf, MAX_MESSAGE_BYTES } from "./frames.ts";
import { handshakeOf } from "./handshakes.ts";
import { split } from "./mutation.ts";
import { Residents } from "./residents.ts";
import { restRequestOf } from "./rest-requests.ts";
import { upstreamAnswerOf } from "./upstream-answers.ts";

export type CaseKind = "frames" | "handshake" | "REST request" | "upstream answer";

/** Kinds in the share of the cases that each gets. */
const KINDS: readonly CaseKind[] = [
  "frames",
  "frames",
  "frames",
  "handshake",
  "handshake",
  "handshake",
  "REST request",
  "REST request",
  "upstream answer",
  "upstream answer",
];

/** The answers that a broken request may get; 5xx is not among them, and a connection may end without one. */
const STATUSES = new Set([100, 101, 200, 202, 204, 400, 401, 403, 404, 405, 408, 413, 415, 426, 431, 505]);

/** A broken request may wait for bytes that never come; then its client goes. No test's outcome hangs on this. */
const PATIENCE_MS = 250;

/** Cases at work at the same time. */
export const WORKERS = 64;
const MAX_KEPT_FAILURES = 10;
const MAX_NAMED = 200;
const GROUPS = ["red", "blue", "green", "g"];

/**
 * One run of the fuzzer: a gateway in a process of its own, its two backends, and the cases of a seed.
 *
 * Shape: `failures` holds what a case should not have seen, each with the number that repeats it.
 */
export class FuzzRun {
  readonly seed: number;
  readonly gateway: ProbedGateway;
  /** Answers in good order. */
  readonly backend: LedgerBackend;
  /**
   * Answers what the seed says. It is a backend of its own, and no disconnect that is owed goes there: a byte too many, or a
   * connection cut behind a whole answer, can eat the next call on that connection, as HTTP/1.1 has it.
   */
  readonly liar: LedgerBackend;
  readonly failures: string[] = [];
  readonly counts = new Map<CaseKind, number>();
  readonly #residents: Residents;
  readonly #connectionOfCase: Map<number, string>;

  private constructor(parts: {
    seed: number;
    gateway: ProbedGateway;
    backend: LedgerBackend;
    liar: LedgerBackend;
    connectionOfCase: Map<number, string>;
  }) {
    this.seed = parts.seed;
    this.gateway = parts.gateway;
    this.backend = parts.backend;
    this.liar = parts.liar;
    this.#connectionOfCase = parts.connectionOfCase;
    this.#residents = new Residents(parts.gateway.port, parts.backend.ledger);
  }

  static async start(seed: number): Promise<FuzzRun> {
    const connectionOfCase = new Map<number, string>();
    const ledger = new Ledger();
    const backend = await LedgerBackend.start({ ledger, respond: answerOrderly });
    const liar = await LedgerBackend.start({ ledger, respond: (call) => lie(seed, call, connectionOfCase) });
    const breaker = { failureRatio: 0 };
    const passResponseHeaders = ["X-Own", "Set-Cookie", "Retry-After"];
    const lies = { urlTemplate: liar.urlTemplate, timeoutMs: 500, breaker, passResponseHeaders };
    const gateway = await ProbedGateway.start({
      upstreams: [
        { ...lies, hubPattern: "answers", eventPattern: "connect,message" },
        { ...lies, hubPattern: "farewells", eventPattern: "disconnect" },
        { urlTemplate: backend.urlTemplate, breaker, forwardHeaders: ["X-Own", "Accept", "Origin"] },
      ],
      paths: [{ pattern: "/devices/{id}", hub: "chat" }],
      limits: { maxMessageBytes: MAX_MESSAGE_BYTES, maxResponseBytes: MAX_MESSAGE_BYTES },
      websocket: { compression: true, pingAfterMs: 3_600_000 },
    });
    return new FuzzRun({ seed, gateway, backend, liar, connectionOfCase });
  }

  /** Runs the cases of a range, many at a time, and waits until every accepted connection has its disconnect. */
  async cases(from: number, to: number): Promise<void> {
    await this.#residents.fill();
    let next = from;
    const work = async (): Promise<void> => {
      while (next < to) await this.#case(next++);
    };
    await Promise.all(Array.from({ length: WORKERS }, work));
  }

  get ledger(): Ledger {
    return this.backend.ledger;
  }

  /**
   * Lets the residents leave, all but so many, waits for the disconnects, and tells what the gateway then still holds.
   *
   * With one that stays its hub stays too, with anything that the others left behind in it.
   */
  async emptied(stayCount: number): Promise<Probe> {
    await this.#residents.fill();
    await this.#residents.leave(stayCount);
    await this.ledger.until(() => this.ledger.owed <= stayCount, "the disconnects owed", {
      fault: () => `${this.ledger.owed} of ${this.ledger.acceptedCount} are missing`,
    });
    return await this.gateway.probe(this.#names());
  }

  /** One whole life of a connection among well-behaved ones. */
  async cycle(): Promise<void> {
    using client = await RawWebSocket.open({ port: this.gateway.port, path: "/ws/client/hubs/cycle" });
    client.text("still there?");
    const answer = await client.nextText();
    if (answer !== "still there?") throw new Error(`the echo was ${JSON.stringify(answer)}`);
    client.close(1000);
    await client.closed();
    await this.ledger.settled();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.gateway[Symbol.asyncDispose]();
    await this.backend.stop();
    await this.liar.stop();
  }

  async #case(number: number): Promise<void> {
    const dice = new Dice(this.seed, number);
    const kind = dice.pick(KINDS);
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    try {
      await this.#run(kind, number, dice);
    } catch (fault) {
      const sentence = `case ${number} (${kind}): ${fault instanceof Error ? fault.message : String(fault)}`;
      if (this.failures.length < MAX_KEPT_FAILURES) this.failures.push(sentence);
    }
  }

  async #run(kind: CaseKind, number: number, dice: Dice): Promise<void> {
    const { port } = this.gateway;
    // Each address has ports of its own: one alone would run out of them.
    const from = { port, localAddress: `127.0.0.${2 + (number % 100)}` };
    if (kind === "frames") return await sendFrames(from, dice);
    if (kind === "upstream answer") return await this.#hearAnswer(from, number);
    using client = await RawWebSocket.dial(from);
    const bytes =
      kind === "handshake" ? handshakeOf(dice, port) : restRequestOf(dice, port, this.#residents.connectionIds);
    await sendApart(client, split(bytes, dice));
    if (dice.chance(0.1)) return client.reset();
    // Half of the clients hang up at once, in the middle of the work that their request has started.
    const head = dice.chance(0.5) ? await client.head(PATIENCE_MS).catch(() => undefined) : undefined;
    client.halfClose();
    await client.ended();
    const received = Buffer.concat([head?.bytes ?? Buffer.alloc(0), client.stream.leftover]);
    checkAnswer(received, kind === "handshake");
  }

  async #hearAnswer(from: { port: number; localAddress: string }, number: number): Promise<void> {
    const path = `/ws/client/hubs/answers?case=${number}`;
    using client = await RawWebSocket.request({ ...from, path, lines: ["Sec-WebSocket-Protocol: a"] });
    const head = await client.head();
    const status = statusOf(head);
    if (status !== 101) {
      const isRelayed = status >= 400 && status < 500;
      if (!isRelayed && ![502, 503, 504].includes(status)) throw new Error(`answered ${head.firstLine}`);
      return;
    }
    const connectionId = this.#connectionOfCase.get(number);
    if (connectionId === undefined) throw new Error("let in though the backend was not asked");
    this.ledger.markAccepted(connectionId);
    client.text("hello");
    client.close(1000);
    await client.ended();
    checkServerFrames(client.stream.leftover, false);
  }

  #names(): IndexName[] {
    const names = new Map<string, IndexName>();
    const add = (hub: string, kind: IndexName["kind"], name: string): void =>
      void names.set(`${hub} ${kind} ${name}`, { hub, kind, name });
    // The last ones only: the whole list would be a load of its own to the process whose memory is measured.
    for (const { hub, userId } of [...this.ledger.accounts.values()].slice(-MAX_NAMED)) {
      add(hub, "hub", hub);
      add(hub, "user", userId);
      for (const group of GROUPS) add(hub, "group", group);
    }
    return [...names.values()];
  }
}

/** Connects well, sends the case's frames, ends in one of three ways and looks at all that came back. */
async function sendFrames(from: { port: number; localAddress: string }, dice: Dice): Promise<void> {
  const compresses = dice.chance(0.3);
  const lines = compresses ? ["Sec-WebSocket-Extensions: permessage-deflate"] : [];
  const isFarewell = dice.chance(0.05);
  const path = isFarewell ? `/ws/client/hubs/farewells?case=${dice.below(1e9)}` : "/ws/client/hubs/chat";
  using client = await RawWebSocket.open({ ...from, path, lines });
  await sendApart(client, split(framesOf(dice), dice));
  const end = dice.below(10);
  // Nobody waits for a farewell's disconnect, so its client must see the end itself.
  if (end === 0 && !isFarewell) return client.reset();
  if (end === 1) client.write(encodeFrame({ opcode: OPCODE.close, payload: closePayload(1000) }));
  client.halfClose();
  await client.ended();
  checkServerFrames(client.stream.leftover, compresses);
}

/** Checks the first answer to what may have been a request; none is an answer too. Behind a 101 come frames. */
function checkAnswer(received: Buffer, maySwitch: boolean): void {
  if (received.length === 0) return;
  const end = received.indexOf("\r\n\r\n");
  const head = received.toString("latin1", 0, end);
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]);
  if (end < 0 || !STATUSES.has(status)) throw new Error(`answered ${JSON.stringify(head.slice(0, 200))}`);
  if (/\r\nInjected:/i.test(head)) throw new Error(`a header came in from the client: ${JSON.stringify(head)}`);
  if (status !== 101) return;
  if (!maySwitch) throw new Error("a REST request became a WebSocket");
  checkServerFrames(received.subarray(end + 4), true);
}

async function sendApart(client: RawWebSocket, pieces: readonly Buffer[]): Promise<void> {
  for (const [i, piece] of pieces.entries()) {
    if (i > 0) await new Promise(setImmediate);
    client.write(piece);
  }
}

function answerOrderly(call: Call): Reply {
  if (call.event === "disconnect") return orderly(204);
  if (call.event === "message") return orderly(200, ["Content-Type: text/plain"], call.body);
  // Names of its own for each connection, so that entries of one that are left in an index are counted.
  const own = /user=(\w+)/.exec(call.header("x-asrs-client-query"))?.[1] ?? `user-${call.connectionId}`;
  const user = call.header("x-asrs-user-id") === "" ? [`X-ASRS-User-Id: ${own}`] : [];
  const reply = orderly(200, [...user, `X-ASRS-Connection-Group: red, blue, group-${call.connectionId}`]);
  return call.header("x-asrs-hub") === "farewells" ? { ...reply, accepted: false } : reply;
}

function lie(seed: number, call: Call, connectionOfCase: Map<number, string>): Reply {
  const number = Number(/case=(\d+)/.exec(call.header("x-asrs-client-query"))?.[1] ?? "0");
  if (call.event === "connect") connectionOfCase.set(number, call.connectionId);
  const salt = { connect: 1, message: 2, disconnect: 3 }[call.event];
  return upstreamAnswerOf(new Dice(seed, number, salt), call.event);
}
