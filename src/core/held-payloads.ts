import type { Payload } from "../protocol/payload.ts";

/** A payload that waits for one connection or, after a publication, for several. */
export interface HeldPayload {
  readonly payload: Payload;
  readonly byteCount: number;
  /** For how many connections it waits. Its bytes are counted once, until the last of them has it. */
  waiting: number;
}

/** The payloads that wait for one connection until its socket opens, in order. */
export interface HeldPayloads {
  readonly payloads: HeldPayload[];
  byteCount: number;
}
