import { categoryOf, type EventName } from "../protocol/events.ts";
import { percentEncodeBytes } from "../protocol/percent.ts";

const PARTS = /^(https?):\/\/([^/?#]*)([^#]*)/i;
const PARAMETER = /\{(hub|category|event)\}/;
/** Characters that no request target may hold unescaped; `%` is taken as the author's own escape. */
const NOT_IN_A_TARGET = /[^\u0021-\u007e]|["<>\\^`{|}]/gu;

/** Where a URL's TCP connection goes. */
export interface Origin {
  readonly secure: boolean;
  /** Host name or address, without brackets. */
  readonly hostname: string;
  readonly port: number;
  /** The value of `Host`: with the port where it is not the scheme's own. */
  readonly host: string;
}

type Parameter = "hub" | "category" | "event";

/** An entry's `urlTemplate`, parsed once. */
export interface UrlTemplate {
  readonly origin: Origin;
  /** For logs: the template without its query, since a `code=` is a secret. */
  readonly label: string;
  /** Literals at even places, parameters at odd ones. */
  readonly pieces: readonly string[];
}

/**
 * Parses an entry's `urlTemplate`.
 *
 * Errors: throws if the text is not an http or https URL, or holds user info or a parameter before its path. The
 *         configuration was checked before, so this is a bug in hubwire.
 * Source: PROTOCOL.md, "Choosing the upstream".
 */
export function parseUrlTemplate(text: string): UrlTemplate {
  const match = PARTS.exec(text);
  const [, scheme = "", authority = "", rest = ""] = match ?? [];
  const origin = match === null || /[{}@]/.test(authority) ? null : parseOrigin(`${scheme}://${authority}`);
  if (origin === null) throw new Error("urlTemplate must be an http or https URL with a fixed host");
  const target = rest.startsWith("/") ? rest : `/${rest}`;
  const pieces = target
    .split(PARAMETER)
    .map((piece, index) => (index % 2 === 0 ? piece.replace(NOT_IN_A_TARGET, percentEncodeBytes) : piece));
  return { origin, pieces, label: `${scheme}://${origin.host}${target.replace(/\?.*$/s, "")}` };
}

/** Parses the origin of an http or https URL. Null if the text is not such a URL. */
export function parseOrigin(url: string): Origin | null {
  const parsed = URL.parse(url);
  if (parsed === null || (parsed.protocol !== "http:" && parsed.protocol !== "https:")) return null;
  const secure = parsed.protocol === "https:";
  const port = parsed.port === "" ? (secure ? 443 : 80) : Number(parsed.port);
  return { secure, hostname: parsed.hostname.replace(/^\[(.*)\]$/, "$1"), port, host: parsed.host };
}

/**
 * Fills a template for an event.
 *
 * Shape:  path and query as a request line has them; each value is escaped by `encodeURIComponent`.
 * Source: PROTOCOL.md, "Choosing the upstream"; the seed's "Url Parameters": the connect event is `connect` here.
 */
export function fillUrlTemplate(template: UrlTemplate, hub: string, event: EventName): string {
  const { pieces } = template;
  let target = pieces[0] ?? "/";
  for (let i = 1; i < pieces.length; i += 2) {
    target += encodeURIComponent(parameterValue(pieces[i] as Parameter, hub, event)) + (pieces[i + 1] ?? "");
  }
  return target;
}

function parameterValue(parameter: Parameter, hub: string, event: EventName): string {
  if (parameter === "hub") return hub;
  return parameter === "event" ? event : categoryOf(event);
}
