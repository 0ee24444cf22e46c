import { queryValues } from "./client-query.ts";
import { DEFAULT_HUB, hubKey } from "./names.ts";
import { percentDecode } from "./percent.ts";

/** The published families of paths. `ws` is the 2020 form, `plain` that of version 2020-10-01, `v1` the first preview. */
export type PathForm = "ws" | "plain" | "v1";

/** A REST path, taken apart but not yet checked. Null parts hold a malformed escape. */
export interface RestPath {
  readonly form: PathForm;
  readonly hub: string | null;
  readonly hubRepeated: boolean;
  /** The parts behind the hub, decoded; literals at even places, names at odd ones. */
  readonly parts: readonly (string | null)[];
  /** The parts as paths are compared: decoded, or as written where that is malformed. */
  readonly compared: readonly string[];
}

const FORMS: readonly { readonly prefix: string; readonly form: PathForm }[] = [
  { prefix: "/ws/api/v1", form: "v1" },
  { prefix: "/ws/api", form: "ws" },
  { prefix: "/api", form: "plain" },
];

/** No operation's path has more parts behind its prefix. Decoding thousands that are malformed would take 20 ms. */
const MAX_PARTS = 8;

/**
 * Takes a REST path apart: first at `/`, then each part is percent-decoded.
 *
 * Shape:  null for a path of another kind, and for one of more parts than any operation has. One trailing slash is the same path,
 *         a second one an empty part; `_default` equals no hub.
 * Source: PROTOCOL.md, "REST API". `query` is raw and without `?`.
 */
export function parseRestPath(path: string, query: string): RestPath | null {
  const found = FORMS.find(({ prefix }) => isUnder(path, prefix));
  if (found === undefined) return null;
  const { prefix, form } = found;
  const rest = path.slice(prefix.length, path.endsWith("/") ? -1 : undefined);
  const written = rest === "" ? [] : rest.slice(1).split("/", MAX_PARTS + 1);
  if (written.length > MAX_PARTS) return null;
  const hubInPath = form !== "plain" && written[0] === "hubs";
  const behind = hubInPath ? written.slice(2) : written;
  const parts = behind.map(percentDecode);
  const hubs = form === "plain" ? queryValues(query, "hub", 2) : [];
  return {
    form,
    hub: hubInPath ? percentDecode(written[1] ?? "") : namedHub(hubs),
    hubRepeated: hubs.length > 1,
    parts,
    compared: parts.map((part, index) => part ?? behind[index] ?? ""),
  };
}

function isUnder(path: string, prefix: string): boolean {
  return path.startsWith(prefix) && (path.length === prefix.length || path[prefix.length] === "/");
}

/** The first hub that a query names; null where its escapes are malformed. */
function namedHub([hub = DEFAULT_HUB]: readonly (string | null)[]): string | null {
  return hub === "" ? DEFAULT_HUB : hub;
}

/**
 * Whether two paths name the same operation on the same things: how a token's audience is compared.
 *
 * A malformed part is the same as itself: the token is good then, and the call is refused for its name.
 */
export function isSamePath(one: RestPath, other: RestPath): boolean {
  if (one.form !== other.form || one.hubRepeated !== other.hubRepeated) return false;
  if (one.hub !== other.hub && hubKey(one.hub ?? "") !== hubKey(other.hub ?? "")) return false;
  if (one.compared.length !== other.compared.length) return false;
  for (let i = 0; i < one.compared.length; i++) {
    if (one.compared[i] !== other.compared[i]) return false;
  }
  return true;
}
