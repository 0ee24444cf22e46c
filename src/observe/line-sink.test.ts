import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { openSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until, within } from "../../test/support/deadline.ts";
import { UnreadPipe } from "../../test/support/unread-pipe.ts";
import { LineSink } from "./line-sink.ts";
import type { Outlet } from "./outlet.ts";

setDefaultTimeout(60_000);

const MAX_BYTES = 100_000;
const LINES = 5000;

/** Writes lines in turns, tells on standard output that it has gone on, and ends by `flush` once it may. */
const WRITER = `
  import { LineSink } from "./line-sink.ts";
  const sink = new LineSink(2, {
    maxBytes: () => ${MAX_BYTES},
    onDropped: (count) => sink.write(JSON.stringify({ dropped: count }) + "\\n"),
  });
  for (let n = 0; n < ${LINES}; n++) {
    sink.write(JSON.stringify({ n, pad: "x".repeat(n % 300) }) + "\\n");
    if (n % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  console.log(sink.waitingBytes);
  for await (const _ of process.stdin) break;
  await sink.flush(20_000);
  process.exit(0);`;

function startWriter(stderr: number) {
  return Bun.spawn([process.execPath, "-e", WRITER], { cwd: import.meta.dir, stdio: ["pipe", "pipe", stderr] });
}

function letRead(child: ReturnType<typeof startWriter>): void {
  child.stdin.write("read");
  child.stdin.end();
}

async function firstWord(stream: ReadableStream<Uint8Array>): Promise<number> {
  const { value } = await stream.getReader().read();
  return Number(Buffer.from(value ?? []).toString());
}

/** Every line is whole and in order, and those that are missing have been counted. */
function expectLines(text: string): { dropped: number } {
  const lines = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { n?: number; dropped?: number });
  const numbers = lines.flatMap(({ n }) => (n === undefined ? [] : [n]));
  expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
  const dropped = lines.reduce((sum, { dropped: count = 0 }) => sum + count, 0);
  expect(new Set(numbers).size + dropped).toBe(LINES);
  return { dropped };
}

describe("a pipe", () => {
  test("that nobody reads holds nobody: what waits is bounded, and what is dropped is counted once somebody reads", async () => {
    using pipe = new UnreadPipe();
    const child = startWriter(pipe.writer);
    const waiting = await within(firstWord(child.stdout), "the writer to go on");
    expect(waiting).toBeGreaterThan(MAX_BYTES / 2);
    expect(waiting).toBeLessThanOrEqual(MAX_BYTES);
    letRead(child);
    let text = "";
    await until(() => {
      text += pipe.read();
      return child.exitCode !== null;
    }, "the writer's end");
    expect(child.exitCode).toBe(0);
    expect(expectLines(text + pipe.read()).dropped).toBeGreaterThan(0);
  });

  test("that is read gets every line", async () => {
    using pipe = new UnreadPipe();
    const child = startWriter(pipe.writer);
    letRead(child);
    let text = "";
    await until(() => {
      text += pipe.read();
      return child.exitCode !== null;
    }, "the writer's end");
    expectLines(text + pipe.read());
  });

  test("stays as it was for the other processes that write to it", async () => {
    using pipe = new UnreadPipe();
    const before = flagsOf(pipe.writer);
    const child = startWriter(pipe.writer);
    await within(firstWord(child.stdout), "the writer to go on");
    expect(flagsOf(pipe.writer)).toBe(before);
    child.kill("SIGKILL");
    await child.exited;
  });
});

function flagsOf(descriptor: number): string | undefined {
  return /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, "utf8"))?.[1];
}

test("a file gets every line behind its contents, and behind what others write", async () => {
  const folder = await mkdtemp(join(tmpdir(), "hubwire-log-"));
  const path = join(folder, "log");
  const script = `import { LineSink } from "./line-sink.ts";
    const sink = new LineSink(2, { maxBytes: () => 1000, onDropped: () => {} });
    console.error("first");
    sink.write("second\\n");
    console.error("third");
    process.exit(0);`;
  const child = Bun.spawn([process.execPath, "-e", script], {
    cwd: import.meta.dir,
    stdio: ["ignore", "inherit", openSync(path, "w")],
  });
  expect(await within(child.exited, "the writer's end")).toBe(0);
  expect(readFileSync(path, "utf8")).toBe("first\nsecond\nthird\n");
  await rm(folder, { recursive: true });
});

test("a socket that nobody reads holds nobody, and gets every line that was not dropped once somebody reads", async () => {
  // Node gives a child a socket as it is; Bun would read it at once.
  const script = `
    const net = require("node:net");
    const [bun, writer, path] = process.argv.slice(1);
    const server = net.createServer({ pauseOnConnect: true }, (reader) => {
      const child = require("node:child_process").spawn(bun, ["-e", writer], { stdio: ["pipe", "pipe", ours] });
      child.stdout.once("data", (word) => {
        console.error(String(word).trim());
        child.stdin.end("read");
        reader.pipe(process.stdout);
        reader.resume();
      });
      child.on("exit", (code) => {
        process.exitCode = code;
        ours.destroy();
        server.close();
      });
    });
    let ours;
    server.listen(path, () => {
      ours = net.connect(path);
    });`;
  const folder = await mkdtemp(join(tmpdir(), "hubwire-socket-"));
  const words = ["node", "-e", script, process.execPath, WRITER, join(folder, "socket")];
  const child = Bun.spawn(words, { cwd: import.meta.dir, stdio: ["ignore", "pipe", "pipe"] });
  const [text, waiting, code] = await within(
    Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text(), child.exited]),
    "the end of both",
  );
  expect([code, Number(waiting) <= MAX_BYTES]).toEqual([0, true]);
  expect(expectLines(text).dropped).toBeGreaterThan(0);
  await rm(folder, { recursive: true });
});

describe("an outlet that fails", () => {
  /** Fails until it is told not to. */
  class FailingOutlet implements Outlet {
    isFailing = true;
    readonly written: string[] = [];

    write(bytes: Uint8Array): number {
      if (this.isFailing) throw new Error("ENOSPC");
      this.written.push(Buffer.from(bytes).toString());
      return bytes.length;
    }
  }

  test("is tried again; what waits meanwhile is bounded, and flush gives up at its deadline", async () => {
    const outlet = new FailingOutlet();
    const dropped: number[] = [];
    const sink = new LineSink(outlet, { maxBytes: () => 100, onDropped: (count) => dropped.push(count) });
    for (let i = 0; i < 30; i++) sink.write(`line ${i % 10} ..\n`);
    expect(sink.waitingBytes).toBe(100);
    await sink.flush(1);
    expect([outlet.written, dropped]).toEqual([[], []]);
    outlet.isFailing = false;
    await until(() => sink.waitingBytes === 0, "the next try");
    expect(outlet.written).toHaveLength(10);
    expect(dropped).toEqual([20]);
  });

  test("a line longer than the bound is written where nothing waits", () => {
    const outlet = new FailingOutlet();
    outlet.isFailing = false;
    const sink = new LineSink(outlet, { maxBytes: () => 10, onDropped: () => {} });
    sink.write(`${"x".repeat(1000)}\n`);
    sink.writeBytes(new Uint8Array());
    expect([outlet.written.length, sink.waitingBytes]).toEqual([1, 0]);
  });
});
