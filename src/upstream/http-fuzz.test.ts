import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HttpAsker } from "../../test/support/http-asker.ts";
import type { Exchange } from "../../test/support/raw-backend.ts";
import type { HeaderLine } from "../protocol/headers.ts";
import type { HttpOutcome } from "./exchange.ts";
import { ResponseParser } from "./response-parser.ts";

/** Every run meets the same cases; a failing one is told by fast-check, made small. */
const SEED = 9112;
const MAX_BODY = 4096;

/** A whole answer as a server may write it, and what it means. */
interface ValidAnswer {
  readonly bytes: Buffer;
  readonly status: number;
  readonly headers: readonly HeaderLine[];
  readonly body: Buffer;
  readonly persistent: boolean;
  /** Whether the end of the connection ends it. */
  readonly untilClose: boolean;
}

const TOKEN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~";
const textOf = (characters: string, maxLength: number, minLength = 0) =>
  fc.array(fc.constantFrom(...characters), { minLength, maxLength }).map((picked) => picked.join(""));
const chance = (percent: number) => fc.nat(99).map((picked) => picked < percent);

/** Headers that mean nothing to the client, under names that no other header has. */
const headerLine: fc.Arbitrary<HeaderLine> = fc.tuple(
  textOf(TOKEN, 12).map((name) => `X-${name}`),
  textOf(`${TOKEN} \t,;:="()`, 30).map((value) => value.trim()),
);
const headerLines = fc.array(headerLine, { maxLength: 8 });
const blanks = fc.constantFrom("", " ", "  ", "\t ");
/** Bytes that look like framing, and any others. */
const bodyBytes = fc
  .array(
    fc.oneof(
      fc.constantFrom("\r\n", "\r\n\r\n", "0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "5\r\n"),
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString("latin1")),
    ),
    { maxLength: 8 },
  )
  .map((pieces) => Buffer.from(pieces.join(""), "latin1"));

const interim = fc
  .tuple(fc.constantFrom(100, 102, 103, 199), headerLines)
  .map(([status, lines]) => `HTTP/1.1 ${status} Wait\r\n${formatLines(lines, "")}\r\n`);

const chunkStyle = fc.record({
  sizes: fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 6 }),
  zeros: fc.nat(4),
  extension: fc.constantFrom("", ";a", ';a="b;c"', " ; a=b"),
  isUpper: fc.boolean(),
  trailers: fc.array(headerLine, { maxLength: 3 }),
});

const validAnswer: fc.Arbitrary<ValidAnswer> = fc
  .record({
    interims: fc.array(interim, { maxLength: 2 }),
    status: fc.constantFrom(200, 200, 201, 204, 299, 302, 304, 400, 404, 500, 503),
    isHttp10: chance(10),
    reason: fc.option(textOf(`${TOKEN} `, 10)),
    lines: headerLines,
    place: fc.nat(8),
    blank: blanks,
    connection: fc.constantFrom(null, null, "keep-alive", "close", "Close, x", "keep-alive, x"),
    framing: fc.constantFrom("counted", "chunked", "until-close"),
    chunks: chunkStyle,
    body: bodyBytes,
  })
  .map((parts) => {
    const { status, isHttp10, reason, lines, place, connection } = parts;
    const isBodiless = status === 204 || status === 304;
    // Chunks are not known to HTTP/1.0.
    const framing = isHttp10 && parts.framing === "chunked" ? "counted" : parts.framing;
    const body = isBodiless ? Buffer.alloc(0) : parts.body;
    const framed = isBodiless ? { line: null, bytes: body } : frame(framing, body, parts.chunks);
    const own: HeaderLine[] = connection === null ? [] : [["Connection", connection]];
    if (framed.line !== null) own.push(framed.line);
    const headers = [...lines.slice(0, place), ...own, ...lines.slice(place)];
    const statusLine = `HTTP/1.${isHttp10 ? 0 : 1} ${status}${reason === null ? "" : ` ${reason}`}\r\n`;
    const head = `${parts.interims.join("")}${statusLine}${formatLines(headers, parts.blank)}\r\n`;
    const untilClose = !isBodiless && framing === "until-close";
    const keeps = isHttp10 ? /keep-alive/.test(connection ?? "") : !/close/i.test(connection ?? "");
    const bytes = Buffer.concat([Buffer.from(head, "latin1"), framed.bytes]);
    return { bytes, status, headers, body, persistent: keeps && !untilClose, untilClose };
  });

function formatLines(lines: readonly HeaderLine[], blank: string): string {
  return lines.map(([name, value]) => `${name}:${blank}${value}${blank}\r\n`).join("");
}

function frame(
  framing: "counted" | "chunked" | "until-close",
  body: Buffer,
  style: typeof chunkStyle extends fc.Arbitrary<infer T> ? T : never,
): { line: HeaderLine | null; bytes: Buffer } {
  if (framing === "until-close") return { line: null, bytes: body };
  if (framing === "counted") return { line: ["content-length", String(body.length)], bytes: body };
  const pieces: Buffer[] = [];
  const announce = (size: number): void => {
    const digits = "0".repeat(style.zeros) + size.toString(16);
    pieces.push(Buffer.from(`${style.isUpper ? digits.toUpperCase() : digits}${style.extension}\r\n`));
  };
  const sizes = [...style.sizes];
  for (let at = 0; at < body.length; ) {
    const piece = body.subarray(at, at + (sizes.shift() ?? body.length));
    announce(piece.length);
    pieces.push(piece, Buffer.from("\r\n"));
    at += piece.length;
  }
  announce(0);
  pieces.push(Buffer.from(`${formatLines(style.trailers, " ")}\r\n`));
  return { line: ["Transfer-Encoding", "chunked"], bytes: Buffer.concat(pieces) };
}

/** One thing that goes wrong with an answer's bytes. */
type Mutation = (bytes: Buffer) => Buffer;

const place = fc.double({ min: 0, max: 1, noNaN: true });
const at = (bytes: Buffer, where: number): number => Math.floor(where * bytes.length);
const spliced = (bytes: Buffer, from: number, to: number, put: Buffer | string): Buffer =>
  Buffer.concat([bytes.subarray(0, from), Buffer.from(put as string, "latin1"), bytes.subarray(to)]);

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(place, fc.nat(255)).map(
    ([where, byte]): Mutation =>
      (bytes) => {
        const copy = Buffer.from(bytes);
        if (copy.length > 0) copy[Math.min(at(bytes, where), copy.length - 1)] = byte;
        return copy;
      },
  ),
  fc.tuple(place, fc.nat(20)).map(
    ([where, count]): Mutation =>
      (bytes) =>
        spliced(bytes, at(bytes, where), at(bytes, where) + count, ""),
  ),
  fc.tuple(place, fc.nat(40)).map(
    ([where, count]): Mutation =>
      (bytes) => {
        const from = at(bytes, where);
        return spliced(bytes, from, from, bytes.subarray(from, from + count));
      },
  ),
  fc
    .tuple(
      place,
      fc.constantFrom(
        "\r\n",
        "\n",
        "\r",
        "\0",
        " ",
        "\r\n ",
        "\r\n\r\n",
        "0\r\n\r\n",
        "\r\nContent-Length: 3",
        "\r\nContent-Length: 3, 4",
        "\r\nTransfer-Encoding: chunked",
        "\r\nConnection: close",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 100 Continue\r\n\r\n",
      ),
    )
    .map(
      ([where, put]): Mutation =>
        (bytes) =>
          spliced(bytes, at(bytes, where), at(bytes, where), put),
    ),
  place.map(
    (where): Mutation =>
      (bytes) =>
        bytes.subarray(0, at(bytes, where)),
  ),
);

const mutations = fc.array(mutation, { maxLength: 4 });
/** Bytes that begin no answer. */
const JUNK = Buffer.from("junk");
const cuts = fc.array(place, { maxLength: 8 });

function mutate(bytes: Buffer, steps: readonly Mutation[]): Buffer {
  return steps.reduce((mutated, step) => step(mutated), bytes);
}

function cutAt(bytes: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...places.map((where) => at(bytes, where)).sort((a, b) => a - b), bytes.length];
  return ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end));
}

/** What a parser makes of pieces and, after them, the end of the connection. */
function parse(pieces: readonly Buffer[]) {
  const parser = new ResponseParser(MAX_BODY);
  for (const piece of pieces) parser.push(piece);
  const endedByItself = parser.result !== null;
  parser.end();
  const { result, status, persistent, keepAliveSeconds } = parser;
  if (result === null) throw new Error("the parser came to no result");
  if (result.kind === "fault") return { endedByItself, cause: result.cause, status };
  const body = Buffer.from(result.body).toString("latin1");
  const { headers, contentType } = result;
  return { endedByItself, status, headers, contentType, body, persistent, keepAliveSeconds };
}

describe("ResponseParser", () => {
  test("reads 2000 random answers as they were meant, whole and cut", () => {
    fc.assert(
      fc.property(validAnswer, cuts, (answer, places) => {
        const whole = parse([answer.bytes]);
        const { status, headers, persistent } = answer;
        const body = answer.body.toString("latin1");
        expect(whole).toMatchObject({ status, headers, body, persistent, endedByItself: !answer.untilClose });
        expect(parse(cutAt(answer.bytes, places))).toEqual(whole);
      }),
      { seed: SEED, numRuns: 2000 },
    );
  });

  test("comes to one result for 4000 mutated answers, however they are cut", () => {
    fc.assert(
      fc.property(validAnswer, mutations, cuts, (answer, steps, places) => {
        const bytes = mutate(answer.bytes, steps);
        const whole = parse([bytes]);
        expect(parse(cutAt(bytes, places))).toEqual(whole);
        expect((whole.body ?? "").length).toBeLessThanOrEqual(MAX_BODY);
      }),
      { seed: SEED, numRuns: 4000 },
    );
  });
});

describe("HttpClient", () => {
  let asker: HttpAsker;

  beforeAll(async () => {
    asker = await HttpAsker.start(MAX_BODY);
  });

  afterAll(() => asker.stop());

  /** Answers the next request by these pieces, waits until all are written, and hands over what the client made of it. */
  const tell = async (target: string, pieces: readonly Buffer[], ends: boolean): Promise<HttpOutcome> => {
    const written = Promise.withResolvers<void>();
    asker.backend.onOther = async (exchange) => {
      await write(exchange, pieces);
      if (ends) exchange.end();
      written.resolve();
    };
    const outcome = await asker.ask(target);
    await written.promise;
    // What came behind the answer is in the client's socket by now; a server that is later still cannot be told apart.
    for (let count = 0; count < 3; count++) await turn();
    return outcome;
  };

  test("reads 1000 random answers over its sockets as they were meant", async () => {
    await fc.assert(
      fc.asyncProperty(validAnswer, cuts, async (answer, places) => {
        const outcome = await tell("/valid", cutAt(answer.bytes, places), answer.untilClose);
        const { status, headers, body } = answer;
        expect(outcome).toMatchObject({ kind: "answer", status, headers });
        if (outcome.kind === "answer") expect(body.equals(outcome.body)).toBe(true);
      }),
      { seed: SEED, numRuns: 1000 },
    );
  });

  test("gives nothing of 2000 answers, mutated or with bytes behind them, to another request", async () => {
    let count = 0;
    const surplus = fc.constantFrom("none", "joined", "apart");
    await fc.assert(
      fc.asyncProperty(validAnswer, mutations, cuts, surplus, async (answer, steps, places, behind) => {
        const pieces = cutAt(mutate(answer.bytes, steps), places);
        if (behind === "apart") pieces.push(JUNK);
        if (behind === "joined") pieces.push(Buffer.concat([pieces.pop() ?? JUNK, JUNK]));
        // Nobody could tell an answer that is not whole from one that is late: only such a one is ended by the server.
        const outcome = await tell("/mutated", pieces, !parse(pieces).endedByItself);
        expect(outcome.kind).not.toBe("not-sent");
        const connection = asker.backend.requests.at(-1)?.connection;
        asker.backend.onOther = (exchange) => {
          // A client that has seen unrequested bytes and still sends another request gets more of them.
          if (behind !== "none" && exchange.request.connection === connection) exchange.reply(200, [], "nobody's");
          exchange.reply(200, [], exchange.request.target);
        };
        const target = `/after-${count++}`;
        const next = await asker.ask(target);
        if (next.kind !== "answer") throw new Error(`the next request ended as ${next.kind}`);
        expect(Buffer.from(next.body).toString("latin1")).toBe(target);
      }),
      { seed: SEED, numRuns: 2000 },
    );
  });
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Writes pieces, each in a segment of its own. */
async function write({ socket }: Exchange, pieces: readonly Buffer[]): Promise<void> {
  socket.setNoDelay(true);
  socket.on("error", () => {});
  for (const piece of pieces) {
    if (socket.destroyed || piece.length === 0) continue;
    socket.write(piece);
    await turn();
  }
}
