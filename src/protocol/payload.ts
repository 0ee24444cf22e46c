/** What a client or a backend has said, apart from the frame or body that carries it. */
export type Payload =
  /** Unicode text. */
  { readonly type: "text"; readonly data: string } | { readonly type: "binary"; readonly data: Uint8Array };
