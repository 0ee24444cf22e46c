import type { RareFacts } from "./facts.ts";
import { hubKey } from "./names.ts";

/** One item of the option `paths`: a further path for clients, and the hub that it leads to. */
export interface ClientPathOption {
  readonly pattern: string;
  readonly hub: string;
}

/**
 * A pattern in segments: a text that must be equal, or null for `{name}`, which is one segment of any text that is not empty.
 * The pattern `/` has none.
 */
export type PatternSegments = readonly (string | null)[];

/** Paths that hubwire serves, or may serve in a later version. No pattern is looked for there. */
export const RESERVED_PATHS: readonly string[] = ["/ws", "/client", "/api", "/.well-known"];

/** What a header may carry for a path: as URL parsers leave it, with escapes for all that is no printable ASCII. */
const ESCAPED_PATH = /^\/[!-~]*$/;

/** A pattern and its hub, ready to be compared. */
interface ClientPath {
  readonly segments: PatternSegments;
  readonly hub: string;
}

/**
 * The client's paths that the configuration adds to the client endpoint.
 *
 * Shape:  paths compare as URL parsers leave them: with their escapes, case-sensitively. One slash at the end does not count. The first
 *         pattern that matches wins. Hubs come back in the form of `hubKey`.
 * Cost:   linear in the number of patterns that have as many segments as the path; the configuration takes 1000 of them. Without patterns nothing.
 * Source: PROTOCOL.md, "Paths of your own".
 */
export class ClientPaths {
  /** By their number of segments, in the configuration's order. */
  readonly #bySize = new Map<number, ClientPath[]>();
  #mostSegments = -1;

  constructor(paths: readonly ClientPathOption[]) {
    for (const { pattern, hub } of paths) {
      const segments = parsePattern(pattern);
      const alike = this.#bySize.get(segments.length) ?? [];
      this.#bySize.set(segments.length, alike);
      alike.push({ segments, hub: hubKey(hub) });
      this.#mostSegments = Math.max(this.#mostSegments, segments.length);
    }
  }

  /** The hub of the first pattern that a path matches; null without one. */
  hubOf(path: string): string | null {
    if (this.#mostSegments === -1 || isReserved(path)) return null;
    // One more than any pattern has shows that none matches: a client may send thousands.
    const segments = segmentsOf(path, this.#mostSegments + 1);
    const found = this.#bySize.get(segments.length)?.find((known) => matches(known.segments, segments));
    return found === undefined ? null : found.hub;
  }
}

/** Takes a pattern apart that the configuration has checked. */
export function parsePattern(pattern: string): PatternSegments {
  return segmentsOf(pattern).map((segment) => (segment.startsWith("{") ? null : segment));
}

/** Whether every path that `later` matches is matched by `earlier`, so that `later` behind it is never found. */
export function covers(earlier: PatternSegments, later: PatternSegments): boolean {
  return earlier.length === later.length && earlier.every((segment, i) => segment === null || segment === later[i]);
}

/** Whether a path is one of `RESERVED_PATHS`, or below one. */
export function isReserved(path: string): boolean {
  return RESERVED_PATHS.some((own) => path.startsWith(own) && (path.length === own.length || path[own.length] === "/"));
}

/** Whether two paths are the same but for one slash at the end. */
export function isSameClientPath(one: string, other: string): boolean {
  return one === other || withoutLastSlash(one) === withoutLastSlash(other);
}

/**
 * The path by which a connection came in, where a pattern of `paths` matched it; else null.
 *
 * Why: facts are read from files and from other nodes. A value that is no path is taken for none, so that it cannot end its header line.
 */
export function clientPathOf({ rare }: { readonly rare?: RareFacts }): string | null {
  if (rare === undefined) return null;
  const path: unknown = rare.clientPath;
  return typeof path === "string" && ESCAPED_PATH.test(path) ? path : null;
}

function segmentsOf(path: string, most?: number): string[] {
  const inner = withoutLastSlash(path);
  return inner === "" ? [] : inner.slice(1).split("/", most);
}

function withoutLastSlash(path: string): string {
  return path.endsWith("/") ? path.slice(0, -1) : path;
}

function matches(pattern: PatternSegments, segments: readonly string[]): boolean {
  for (let i = 0; i < pattern.length; i++) {
    const wanted = pattern[i];
    if (wanted === null ? segments[i] === "" : wanted !== segments[i]) return false;
  }
  return true;
}
