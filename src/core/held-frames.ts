import type { Frame } from "./ports/client-socket.ts";

/** A frame that waits for one connection or, where it was published, for several. */
export interface HeldFrame {
  readonly frame: Frame;
  readonly byteCount: number;
  /** For how many it waits; it is counted once, until the last of them has it. */
  waiting: number;
}

/** The frames that wait for one connection until its socket opens, in order. */
export interface HeldFrames {
  readonly frames: HeldFrame[];
  byteCount: number;
}
