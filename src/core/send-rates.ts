import { refill } from "./rate.ts";

export interface SendRateOptions {
  /** 0: no limit, as for the others. */
  readonly messagesPerSecond: number;
  /** Payloads of messages and of control frames. */
  readonly bytesPerSecond: number;
  /** Pings, and pongs that answer none. */
  readonly controlFramesPerSecond: number;
}

/** So many seconds' worth of control frames may come at once. */
const CONTROL_BURST_SECONDS = 4;

/** What one client may still send. It exists from the first frame that counts. */
export class SendRates {
  readonly #options: SendRateOptions;
  #messagesLeft: number;
  #bytesLeft: number;
  #controlFramesLeft: number;
  #filledAt: number;

  constructor(options: SendRateOptions, now: number) {
    this.#options = options;
    this.#messagesLeft = options.messagesPerSecond;
    this.#bytesLeft = options.bytesPerSecond;
    this.#controlFramesLeft = options.controlFramesPerSecond * CONTROL_BURST_SECONDS;
    this.#filledAt = now;
  }

  /** Counts a message; false where it is past a rate. */
  takeMessage(byteCount: number, now: number): boolean {
    this.#refill(now);
    this.#messagesLeft--;
    this.#bytesLeft -= byteCount;
    const isPast = this.#options.messagesPerSecond > 0 && this.#messagesLeft < 0;
    return !isPast && this.#hasBytesLeft();
  }

  /** Counts a control frame: it is not a message, but its bytes count; false where it is past a rate. */
  takeControlFrame(byteCount: number, now: number): boolean {
    this.#refill(now);
    this.#controlFramesLeft--;
    this.#bytesLeft -= byteCount;
    const isPast = this.#options.controlFramesPerSecond > 0 && this.#controlFramesLeft < 0;
    return !isPast && this.#hasBytesLeft();
  }

  #hasBytesLeft(): boolean {
    return this.#options.bytesPerSecond === 0 || this.#bytesLeft >= 0;
  }

  #refill(now: number): void {
    const { messagesPerSecond, bytesPerSecond, controlFramesPerSecond } = this.#options;
    const passedMs = now - this.#filledAt;
    this.#filledAt = now;
    this.#messagesLeft = refill(this.#messagesLeft, messagesPerSecond, passedMs);
    this.#bytesLeft = refill(this.#bytesLeft, bytesPerSecond, passedMs);
    this.#controlFramesLeft = refill(this.#controlFramesLeft, controlFramesPerSecond, passedMs, CONTROL_BURST_SECONDS);
  }
}
