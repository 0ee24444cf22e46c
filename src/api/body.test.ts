import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FakeClock, settled } from "../../test/support/fake-clock.ts";
import { BODY_STALL_TIMEOUT_MS, type BodyResult, EarlyBodies, readBody } from "./body.ts";

const MAX_BYTES = 20_000;

/** A body whose pieces the test hands over when it likes. */
class Upload {
  readonly clock = new FakeClock();
  readonly result: Promise<BodyResult>;
  roomQuestions = 0;
  heldBytes = 0;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;

  constructor(contentLength: number | null, options: { readonly room: boolean } = { room: true }) {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
      },
    });
    const headers = new Headers(contentLength === null ? {} : { "Content-Length": `${contentLength}` });
    const request = new Request("http://gw.example/", { method: "POST", headers, body });
    const hold = (byteCount: number) => {
      this.heldBytes += byteCount;
    };
    const hasRoom = () => {
      this.roomQuestions++;
      return options.room;
    };
    this.result = readBody(request, { maxBytes: MAX_BYTES, clock: this.clock, hasRoom, hold });
  }

  get isDone(): boolean {
    return Bun.peek.status(this.result) !== "pending";
  }

  async arrive(byteCount: number): Promise<void> {
    this.#controller?.enqueue(new Uint8Array(byteCount).fill(7));
    await settled();
  }

  async end(): Promise<BodyResult> {
    this.#controller?.close();
    return await this.result;
  }

  async fail(): Promise<BodyResult> {
    this.#controller?.error(new Error("the client has gone"));
    return await this.result;
  }
}

function read(body: Uint8Array<ArrayBuffer> | null, lengthHeader: string | null): Promise<BodyResult> {
  const headers = new Headers(lengthHeader === null ? {} : { "Content-Length": lengthHeader });
  const request = new Request("http://gw.example/", { method: "POST", headers, ...(body === null ? {} : { body }) });
  const options = { maxBytes: MAX_BYTES, clock: new FakeClock(), hasRoom: () => true, hold: () => {} };
  return readBody(request, options);
}

describe("a body", () => {
  test.each([0, 1, 16_384, 16_385, MAX_BYTES])(
    "of %d bytes comes whole, with a Content-Length or without",
    async (size) => {
      const bytes = new Uint8Array(size).map((_zero, index) => index % 251);
      for (const header of [`${size}`, null]) {
        const result = await read(bytes, header);
        expect(result.kind === "body" && Buffer.from(result.bytes).equals(bytes)).toBe(true);
      }
    },
  );

  test("that is not there is empty", async () => {
    expect(await read(null, null)).toEqual({ kind: "body", bytes: new Uint8Array() });
    expect(await read(null, "0")).toEqual({ kind: "body", bytes: new Uint8Array() });
  });

  test("is the same however it is cut into pieces, and all of it is held", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 3000 }), { maxLength: 6 }), async (pieces) => {
        const whole = Buffer.concat(pieces);
        let heldBytes = 0;
        const body = new ReadableStream<Uint8Array>({
          start(controller) {
            for (const piece of pieces.filter(({ length }) => length > 0)) controller.enqueue(piece);
            controller.close();
          },
        });
        const result = await readBody(new Request("http://gw.example/", { method: "POST", body }), {
          maxBytes: MAX_BYTES,
          clock: new FakeClock(),
          hasRoom: () => true,
          hold: (byteCount) => {
            heldBytes += byteCount;
          },
        });
        expect(result.kind === "body" && Buffer.from(result.bytes).equals(whole)).toBe(true);
        expect(heldBytes).toBe(whole.length);
      }),
      { numRuns: 50 },
    );
  });
});

describe("a body that is too big", () => {
  test("by its Content-Length is refused before anything is read or held", async () => {
    const upload = new Upload(MAX_BYTES + 1);
    await settled();
    expect(await upload.result).toEqual({ kind: "too-big" });
    expect(upload.heldBytes).toBe(0);
    expect(upload.clock.timerCount).toBe(0);
  });

  test("by a number beyond all numbers too", async () => {
    expect(await read(new Uint8Array(1), "9".repeat(400))).toEqual({ kind: "too-big" });
  });

  test("in chunks is refused when it passes the bound, and no more than the bound is held", async () => {
    const upload = new Upload(null);
    await upload.arrive(MAX_BYTES);
    expect(upload.isDone).toBe(false);
    expect(upload.heldBytes).toBe(MAX_BYTES);
    await upload.arrive(1);
    expect(await upload.result).toEqual({ kind: "too-big" });
    expect(upload.heldBytes).toBe(MAX_BYTES);
    expect(upload.clock.timerCount).toBe(0);
  });
});

describe("a body for which there is no room", () => {
  test.each([null, 0, 10, MAX_BYTES])("is not read (Content-Length %p)", async (length) => {
    const upload = new Upload(length, { room: false });
    expect(await upload.result).toEqual({ kind: "no-room" });
    expect(upload.heldBytes).toBe(0);
    expect(upload.clock.timerCount).toBe(0);
  });

  test("is too big first", async () => {
    expect(await new Upload(MAX_BYTES + 1, { room: false }).result).toEqual({ kind: "too-big" });
  });

  test("is asked about once: one that is being read is read to its end", async () => {
    const upload = new Upload(null);
    await upload.arrive(1);
    await upload.arrive(1);
    expect(await upload.end()).toEqual({ kind: "body", bytes: new Uint8Array(2).fill(7) });
    expect(upload.roomQuestions).toBe(1);
  });
});

describe("a body that stalls", () => {
  test.each([null, 16_385])("in pieces is given up 10 s after the last one (Content-Length %p)", async (length) => {
    const upload = new Upload(length);
    await upload.clock.advance(BODY_STALL_TIMEOUT_MS - 1);
    await upload.arrive(1);
    await upload.clock.advance(BODY_STALL_TIMEOUT_MS - 1);
    expect(upload.isDone).toBe(false);
    await upload.clock.advance(1);
    expect(await upload.result).toEqual({ kind: "stalled" });
    expect(upload.clock.timerCount).toBe(0);
  });

  test("and is small must be whole within 10 s", async () => {
    const upload = new Upload(10);
    await upload.arrive(9);
    await upload.clock.advance(BODY_STALL_TIMEOUT_MS - 1);
    expect(upload.isDone).toBe(false);
    await upload.clock.advance(1);
    expect(await upload.result).toEqual({ kind: "stalled" });
    expect(upload.heldBytes).toBe(10);
  });

  test("and goes on after all is of no consequence", async () => {
    for (const length of [null, 10]) {
      const upload = new Upload(length);
      await upload.clock.advance(BODY_STALL_TIMEOUT_MS);
      await upload.arrive(10);
      expect(await upload.end()).toEqual({ kind: "stalled" });
      expect(upload.heldBytes).toBe(length ?? 0);
    }
  });
});

test("a body whose sender goes is broken, and no timer is left", async () => {
  for (const length of [null, 10, 16_385]) {
    const upload = new Upload(length);
    await upload.arrive(1);
    expect(await upload.fail()).toEqual({ kind: "broken" });
    await settled();
    expect(upload.clock.timerCount).toBe(0);
  }
});

test("a body that has come leaves no timer", async () => {
  for (const length of [null, 3, 16_385]) {
    const upload = new Upload(length);
    await upload.arrive(3);
    expect(await upload.end()).toMatchObject({ kind: "body" });
    await settled();
    expect(upload.clock.timerCount).toBe(0);
  }
});

describe("the server's own timeout and the deadline", () => {
  /** What happened to the timeout while bodies of 3 bytes were read together, and the timers left after their turn. */
  async function readTogether(
    uploads: readonly ("at once" | "late")[],
  ): Promise<{ timeouts: string[]; timers: number }> {
    const clock = new FakeClock();
    const timeouts: string[] = [];
    const early = new EarlyBodies();
    const holdOpen = () => {
      timeouts.push("held");
      return () => void timeouts.push("restored");
    };
    const late: ReadableStreamDefaultController<Uint8Array>[] = [];
    const results = uploads.map((upload) => {
      const start = (controller: ReadableStreamDefaultController<Uint8Array>) => void late.push(controller);
      const body = upload === "late" ? new ReadableStream<Uint8Array>({ start }) : new Uint8Array(3);
      const headers = { "Content-Length": "3" };
      const request = new Request("http://gw.example/", { method: "POST", headers, body });
      const options = { maxBytes: MAX_BYTES, clock, hasRoom: () => true, hold: () => {}, holdOpen };
      return readBody(request, options, early);
    });
    await settled();
    const timers = clock.timerCount;
    for (const controller of late) {
      controller.enqueue(new Uint8Array(3));
      controller.close();
    }
    expect(await Promise.all(results)).toEqual(uploads.map(() => ({ kind: "body", bytes: new Uint8Array(3) })));
    expect(clock.timerCount).toBe(0);
    return { timeouts, timers };
  }

  test("are left alone for a small body that comes with its head", async () => {
    expect(await readTogether(["at once", "at once"])).toEqual({ timeouts: [], timers: 0 });
  });

  test("are set for a small body that does not, and put back when it has come", async () => {
    expect(await readTogether(["late"])).toEqual({ timeouts: ["held", "restored"], timers: 1 });
  });

  test("are set for those alone that are late in their turn", async () => {
    const { timeouts, timers } = await readTogether(["late", "at once", "late"]);
    expect({ timeouts: timeouts.sort(), timers }).toEqual({
      timeouts: ["held", "held", "restored", "restored"],
      timers: 2,
    });
  });
});
