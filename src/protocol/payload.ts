/**
 * The content of a message to clients, apart from the frame or the body that carries it. Between nodes a type is written by its name.
 */
export type Payload =
  /** Unicode text. */
  { readonly type: "text"; readonly data: string } | { readonly type: "binary"; readonly data: Uint8Array };

/** How the content of a message is to be read. */
export type PayloadType = Payload["type"];
