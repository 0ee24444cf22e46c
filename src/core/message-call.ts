/** A message's call that is under way. */
export interface MessageCall {
  /**
   * Gives up sending the message once more, so that its payload is not needed any more. Returns false where the message has not been
   * written whole; nothing has changed then.
   */
  forgoRepeat(): boolean;
  /** How long it has taken so far, pauses between repeats included. Units: whole milliseconds. */
  tookMs(): number;
  /** Ends the call with `unknown`, cause `abandoned`; does nothing where it has ended. */
  abandon(): void;
}

/** A message whose call is under way, as the parts that watch the memory see it. */
export interface MessageInFlight {
  readonly payload: Uint8Array;
  /** Lets the payload go where only a repeat would need it. Returns how many bytes that were. */
  letPayloadGo(): number;
  /** Ends the call. */
  giveUp(): void;
}
