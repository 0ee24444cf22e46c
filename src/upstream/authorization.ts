import type { HeaderLines } from "../protocol/headers.ts";

/** Why there are no headers to authenticate a call. `fault` is for the log and holds no secret. */
export interface AuthorizationFault {
  readonly fault: string;
}

/**
 * Gives the headers that authenticate calls to an upstream.
 *
 * Order: ask `current` first; where it has nothing, `obtain` waits for it.
 */
export interface Authorizer {
  /** The headers in force; null where they have to be obtained first. */
  current(): HeaderLines | null;
  /** Errors: a token that is not issued is a value. */
  obtain(): Promise<HeaderLines | AuthorizationFault>;
  /** The upstream answered 401 to these headers. */
  rejected(headers: HeaderLines): void;
  /** Ends all requests that are under way. May be called twice. */
  stop(): void;
}

/** An authorizer whose headers never change. Without headers it is for calls that need none. */
export function fixedAuthorizer(headers: HeaderLines): Authorizer {
  return {
    current: () => headers,
    obtain: async () => headers,
    rejected: () => {},
    stop: () => {},
  };
}
