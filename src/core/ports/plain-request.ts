/** A request that is not for the client endpoint: its path has been read, its body has not. */
export interface PlainRequest {
  readonly request: Request;
  readonly path: string;
  /** Raw, without `?`. */
  readonly query: string;
  /**
   * Turns Bun's idle timeout, which cuts without a status, off for this request: the code that reads its body has its own deadline.
   * The function returned puts it back. It belongs to the TCP connection, which would never time out again.
   */
  readonly holdOpen: () => () => void;
}
