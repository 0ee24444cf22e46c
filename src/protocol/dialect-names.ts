/** The dialects that hubwire speaks with backends. A connection has one, and so has an entry of `upstreams`. Source: decision 0049. */
export const DIALECT_NAMES = ["asrs"] as const;
export type DialectName = (typeof DIALECT_NAMES)[number];

/** The dialect of a connection whose facts name none. */
export const FIRST_DIALECT: DialectName = DIALECT_NAMES[0];

/** The dialect in which all events of a connection are written. */
export function dialectOf({ rare }: { readonly rare?: { readonly dialect?: DialectName } }): DialectName {
  return rare?.dialect ?? FIRST_DIALECT;
}
