import { FIRST_DIALECT } from "../protocol/dialect-names.ts";
import { hubKey } from "../protocol/names.ts";
import { formatPath, type Path, type TreeFault, valueAt } from "./faults.ts";
import { CREDENTIAL_HEADERS, variableOf } from "./forwarded-names.ts";
import { namesInHubs, namesInPatterns } from "./hub-spellings.ts";
import { type Pattern, readPattern } from "./patterns.ts";

/** Values of `allowedOrigins` with which pages of every origin get in: a page in a sandboxed frame has the origin `null`. */
const EVERY_ORIGIN = ["*", "null"];

/** The options of an entry that list headers. */
const LISTS = ["forwardHeaders", "passResponseHeaders"] as const;

/**
 * Finds headers that an entry must not pass on because of what other options say.
 *
 * Shape: `tree` is a configuration as it was written.
 */
export function findForwardingFaults(tree: object): TreeFault[] {
  const entries = valueAt(tree, ["upstreams"]);
  if (!Array.isArray(entries)) return [];
  const positions = entries.map((_, position) => position);
  return [...findCertHeaders(tree, positions), ...findHijackable(tree, positions)];
}

function findCertHeaders(tree: object, positions: readonly number[]): TreeFault[] {
  const certHeader = valueAt(tree, ["clientCertHeader"]);
  if (typeof certHeader !== "string") return [];
  const message =
    "is the clientCertHeader, which only a trusted proxy may set: remove it; backends get X-ASRS-Client-Cert-Thumbprint";
  return positions
    .flatMap((position) => LISTS.flatMap((list) => headersAt(tree, ["upstreams", position, list])))
    .filter(({ name }) => variableOf(name) === variableOf(certHeader))
    .map(({ path }) => ({ path, message }));
}

/**
 * Cross-site WebSocket hijacking: browsers send cookies and HTTP logins with the WebSocket handshake of any page, and let that page read
 * the messages. Only the check of `Origin` keeps it out.
 */
function findHijackable(tree: object, positions: readonly number[]): TreeFault[] {
  const openers = findOpeners(tree, positions);
  return positions.flatMap((position) => {
    const opener = openers.get(position);
    if (opener === undefined) return [];
    const message = `must not be forwarded while ${formatPath(opener)} lets in the pages of every origin (\`*\`, the default, or \`null\`): browsers send cookies and HTTP logins along, so any web page could open a WebSocket in the name of the user who visits it (cross-site WebSocket hijacking). List the origins of your own pages there`;
    return headersAt(tree, ["upstreams", position, "forwardHeaders"])
      .filter(({ name }) => CREDENTIAL_HEADERS.has(name.toLowerCase()))
      .map(({ path }) => ({ path, message }));
  });
}

/** The entries that take the connect event of a hub which pages of every origin may open, each with the option that lets them in. */
function findOpeners(tree: object, positions: readonly number[]): Map<number, Path> {
  const openers = new Map<number, Path>();
  const takers = positions.map((position) => connectTaker(tree, position)).filter((taker) => taker !== null);
  const dialects = new Set(takers.map(({ dialect }) => dialect));
  for (const [hub, opener] of findOpenHubs(tree)) {
    for (const dialect of dialects) {
      const first = takers.find((taker) => taker.dialect === dialect && takesHub(taker.hubs, hub));
      if (first !== undefined && !openers.has(first.position)) openers.set(first.position, opener);
    }
  }
  return openers;
}

/** Hubs that pages of every origin may open, by `hubKey`, each with the option that lets them in. Null means each hub that is not named. */
function findOpenHubs(tree: object): Map<string | null, Path> {
  const general: Path = ["allowedOrigins"];
  const hubs = new Map<string | null, Path>([[null, general]]);
  for (const { name } of namesInPatterns(tree)) hubs.set(hubKey(name), general);
  for (const name of namesInHubs(tree)) {
    const own: Path = ["hubs", name, "allowedOrigins"];
    hubs.set(hubKey(name), valueAt(tree, own) === undefined ? general : own);
  }
  return new Map([...hubs].filter(([, path]) => isOpen(valueAt(tree, path))));
}

function isOpen(origins: unknown): boolean {
  return origins === undefined || (Array.isArray(origins) && EVERY_ORIGIN.some((origin) => origins.includes(origin)));
}

/** An entry that takes connect events. */
interface ConnectTaker {
  readonly position: number;
  readonly dialect: unknown;
  readonly hubs: Pattern;
}

function connectTaker(tree: object, position: number): ConnectTaker | null {
  const entry = valueAt(tree, ["upstreams", position]);
  if (typeof entry !== "object" || entry === null) return null;
  const optionOf = (name: string) => valueAt(tree, ["upstreams", position, name]);
  const categories = readPattern(optionOf("categoryPattern"));
  const events = readPattern(optionOf("eventPattern"));
  if (categories !== "*" && !categories.includes("connections")) return null;
  if (events !== "*" && !events.includes("connect")) return null;
  return { position, dialect: optionOf("dialect") ?? FIRST_DIALECT, hubs: readPattern(optionOf("hubPattern")) };
}

function takesHub(hubs: Pattern, hub: string | null): boolean {
  return hubs === "*" || (hub !== null && hubs.some((name) => hubKey(name) === hub));
}

/** The names in a list of headers that may have any type, since the schema judges that. */
function headersAt(tree: object, list: Path): { readonly name: string; readonly path: Path }[] {
  const names = valueAt(tree, list);
  if (!Array.isArray(names)) return [];
  return names.flatMap((name: unknown, index) => (typeof name === "string" ? [{ name, path: [...list, index] }] : []));
}
