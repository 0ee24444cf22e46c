import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { within } from "../../test/support/deadline.ts";
import { HttpAsker } from "../../test/support/http-asker.ts";
import type { Exchange } from "../../test/support/raw-backend.ts";
import { ANSWERS, FAULTS, MAX_BODY } from "../../test/support/upstream/answers.ts";
import { bodyOf } from "../../test/support/upstream/fixture.ts";

/** Longer answers are cut into this many pieces, shorter ones into single bytes. */
const MOST_PIECES = 300;

let asker: HttpAsker;

beforeEach(async () => {
  asker = await HttpAsker.start(MAX_BODY);
});

afterEach(() => asker.stop());

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Writes a text in so many pieces, each in a segment of its own. */
async function write({ socket }: Exchange, text: string, pieces: number): Promise<void> {
  const bytes = Buffer.from(text, "latin1");
  const size = Math.max(1, Math.ceil(bytes.length / pieces));
  socket.setNoDelay(true);
  socket.on("error", () => {});
  for (let at = 0; at < bytes.length && !socket.destroyed; at += size) {
    socket.write(bytes.subarray(at, at + size));
    if (pieces > 1) await turn();
  }
}

/** What came of a request that was answered by a text, and which connection the next one took. */
async function tell(text: string, pieces: number, thenEnds: boolean) {
  const written = Promise.withResolvers<void>();
  asker.backend.onOther = async (exchange) => {
    if (exchange.request.target !== "/told") {
      exchange.reply(200, [], exchange.request.target);
      return;
    }
    await write(exchange, text, pieces);
    if (thenEnds) exchange.end();
    written.resolve();
  };
  const before = asker.backend.connectionCount;
  const outcome = await asker.ask("/told");
  await within(written.promise, "the answer to be written");
  // What came behind the answer is in the client's socket by now, and is noticed there.
  for (let count = 0; count < 3; count++) await turn();
  const next = bodyOf(await asker.ask("/next")).toString();
  return { outcome, next, isReused: asker.backend.connectionCount === before + 1 };
}

for (const [how, pieces] of [
  ["whole", 1],
  ["in small pieces", MOST_PIECES],
] as const) {
  describe(`over a socket, ${how}`, () => {
    test.each(Object.entries(ANSWERS))(
      "an answer with %s is read, and the next request gets its own",
      async (...row) => {
        const [name, [text, status, body, persistent]] = row;
        const { outcome, next, isReused } = await tell(text, pieces, name === "a body up to the end");
        expect(outcome).toMatchObject({ kind: "answer", status });
        expect(bodyOf(outcome).toString("latin1")).toBe(body);
        expect(next).toBe("/next");
        expect(isReused).toBe(persistent);
      },
    );

    test.each(Object.entries(FAULTS))("an answer with %s is refused, and its socket not used again", async (...row) => {
      const [, [text, cause, status]] = row;
      const { outcome, next, isReused } = await tell(text, pieces, cause === "reset");
      expect(outcome).toMatchObject({ kind: "unknown", cause, status });
      expect(next).toBe("/next");
      expect(isReused).toBe(false);
    });
  });
}
