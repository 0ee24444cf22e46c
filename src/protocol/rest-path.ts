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
  /** What follows the hub, decoded; literals at even places, names at odd ones. */
  readonly parts: readonly (string | null)[];
}

const FORMS: readonly (readonly [prefix: string, form: PathForm])[] = [
  ["/ws/api/v1", "v1"],
  ["/ws/api", "ws"],
  ["/api", "plain"],
];

/**
 * Takes a REST path apart: first at `/`, then each part is percent-decoded.
 *
 * Shape:  null for a path of another kind. A trailing slash is the same path; `_default` equals no hub.
 * Source: spec section 6. `query` is raw and without `?`.
 */
export function parseRestPath(path: string, query: string): RestPath | null {
  const found = FORMS.find(([prefix]) => path === prefix || path.startsWith(`${prefix}/`));
  if (found === undefined) return null;
  const [prefix, form] = found;
  const rest = path.slice(prefix.length + 1).replace(/\/$/, "");
  const parts = rest === "" ? [] : rest.split("/").map(percentDecode);
  if (form === "plain") {
    const hubs = queryValues(query, "hub");
    const [hub = DEFAULT_HUB] = hubs;
    return { form, hub: hub === "" ? DEFAULT_HUB : hub, hubRepeated: hubs.length > 1, parts };
  }
  if (parts[0] !== "hubs") return { form, hub: DEFAULT_HUB, hubRepeated: false, parts };
  return { form, hub: parts[1] ?? null, hubRepeated: false, parts: parts.slice(2) };
}

/** Whether two paths name the same operation on the same things: how a token's audience is compared. */
export function isSamePath(one: RestPath, other: RestPath): boolean {
  if (one.form !== other.form || one.hub === null || other.hub === null || one.hubRepeated || other.hubRepeated)
    return false;
  if (hubKey(one.hub) !== hubKey(other.hub) || one.parts.length !== other.parts.length) return false;
  return one.parts.every((part, index) => part !== null && part === other.parts[index]);
}
