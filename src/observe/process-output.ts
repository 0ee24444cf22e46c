import { format } from "node:util";
import pino, { type Logger } from "pino";
import type { Clock } from "../core/ports/clock.ts";
import { LineSink } from "./line-sink.ts";
import { LineSums } from "./line-sums.ts";
import { writeFault } from "./log.ts";

/** How long the end of the process waits for the reader of its output. */
const FLUSH_TIMEOUT_MS = 500;

/** The bytes that may wait for the reader of standard output. */
const MAX_PRINTED_BYTES = 1_048_576;

export interface ProcessOutputOptions {
  /** The process's number where several write to one log; every line has it then. */
  readonly index?: string | undefined;
  /** Bytes of log lines that may wait; more are dropped, and counted. */
  readonly maxLogBufferBytes: number;
  readonly clock: Clock;
}

/**
 * The outputs of a process that runs for long: pino JSON lines on standard error, human-readable lines on standard output. Writing
 * never waits for the reader.
 *
 * Source: docs/decisions/0004, docs/decisions/0018.
 */
export class ProcessOutput {
  readonly log: Logger;
  /** May change. */
  maxLogBufferBytes: number;
  readonly #logSink: LineSink;
  readonly #printSink: LineSink;
  readonly #lines: LineSums;

  constructor({ index, maxLogBufferBytes, clock }: ProcessOutputOptions) {
    this.maxLogBufferBytes = maxLogBufferBytes;
    this.#logSink = new LineSink(2, {
      maxBytes: () => this.maxLogBufferBytes,
      onDropped: (count) => {
        const limit = { maxLogBufferBytes: this.maxLogBufferBytes };
        this.log.warn({ count, ...limit }, "log lines dropped: standard error was not read in time");
      },
    });
    this.#printSink = new LineSink(1, {
      maxBytes: () => MAX_PRINTED_BYTES,
      onDropped: (count) => this.log.warn({ count }, "lines dropped: standard output was not read in time"),
    });
    const base = index === undefined ? null : { process: Number(index) };
    this.log = pino({ base, timestamp: pino.stdTimeFunctions.isoTime }, this.#logSink);
    this.#lines = new LineSums(this.log, clock);
  }

  /** Writes a line for people. */
  print(line: string): void {
    this.#printSink.write(`${line}\n`);
  }

  /** Passes on what another process has printed. */
  pass(bytes: Uint8Array): void {
    this.#printSink.writeBytes(bytes);
  }

  /** Logs a bug that nobody else has caught. */
  fault(error: unknown): void {
    writeFault(this.#lines, error);
  }

  /** From now on what nobody catches is logged, and the process goes on: too much hangs on it. So is what libraries print. */
  takeAll(): void {
    const onFault = (error: unknown) => this.fault(error);
    process.on("unhandledRejection", onFault);
    process.on("uncaughtException", onFault);
    // `console` waits for the reader.
    for (const name of ["log", "info", "warn", "error", "debug", "trace"] as const) {
      console[name] = (...words: unknown[]) => {
        const text = format(...words);
        this.#lines.write({ level: "warn", message: "printed by a library", detail: text, facts: { text } });
      };
    }
  }

  /** Ends the process once everything is written, or after half a second. */
  async end(exitCode: number): Promise<never> {
    this.#lines.stop();
    await Promise.all([this.#logSink, this.#printSink].map((sink) => sink.flush(FLUSH_TIMEOUT_MS)));
    process.exit(exitCode);
  }
}

/** Ends the process with a sentence for people on standard error; it waits half a second for the reader. */
export async function endWithSentence(sentence: string, exitCode: number): Promise<never> {
  const sink = new LineSink(2, { maxBytes: () => MAX_PRINTED_BYTES, onDropped: () => {} });
  sink.write(`${sentence}\n`);
  await sink.flush(FLUSH_TIMEOUT_MS);
  process.exit(exitCode);
}
