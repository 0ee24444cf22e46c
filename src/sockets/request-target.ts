/** The path and query of a request. */
export interface RequestTarget {
  /** As URL parsers leave it, with its escapes. */
  readonly path: string;
  /** Raw, without `?`. */
  readonly query: string;
}

/** The longest name of DNS, with a dot at its end, a colon and a port. */
const MAX_HOST_BYTES = 260;

/**
 * Whether a request has at most one `Host`; `line` is its value, several lines joined by `, `, or null without a `Host`.
 *
 * Why:    Bun takes the first of two for the URL, and a proxy may have taken the second for its own rules.
 * Source: RFC 9112, section 3.2: a request with two is refused with 400.
 */
export function isOneHost(line: string | null): boolean {
  return line === null || (line.length <= MAX_HOST_BYTES && !line.includes(","));
}

/**
 * Takes apart the URLs that Bun makes of `Host` line and request target.
 *
 * Shape:  null where the `Host` line is not a host. The query is all behind the first `?`, as far as Bun keeps it as it came
 *         (PROTOCOL.md says what it re-encodes).
 * Cost:   a URL is parsed once for each change of origin; the others are cut. That is the same: whether a URL with a path is one
 *         depends on its origin alone, and Bun has put each that is one into the form that a parser gives.
 */
export class RequestTargets {
  /** The last valid origin. */
  #origin = "";

  read(url: string): RequestTarget | null {
    const { length } = this.#origin;
    if (length > 0 && url[length] === "/" && url.startsWith(this.#origin)) return cut(url, length);
    const parsed = URL.parse(url);
    if (parsed === null) return null;
    this.#origin = parsed.origin;
    return { path: parsed.pathname, query: cut(url, 0).query };
  }
}

function cut(url: string, pathStart: number): RequestTarget {
  const queryMark = url.indexOf("?", pathStart);
  const fragmentMark = url.indexOf("#", pathStart);
  const query = queryMark === -1 ? "" : url.slice(queryMark + 1);
  const path = url.slice(pathStart, queryMark === -1 ? undefined : queryMark);
  return { path: fragmentMark === -1 ? path : path.replace(/#.*/s, ""), query };
}
