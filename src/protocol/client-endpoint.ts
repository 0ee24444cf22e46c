import type { ClientPaths } from "./client-paths.ts";
import { queryValues } from "./client-query.ts";
import { DEFAULT_HUB, HUB_RULE, hubKey, isHubName } from "./names.ts";
import { ownCopy } from "./own-copy.ts";
import { percentDecode } from "./percent.ts";

const ENDPOINT = /^(?:\/ws)?\/client(?:\/hubs(?:\/([^/]*))?)?\/?$/;
const NAMES_A_HUB = /^(?:\/ws)?\/client\/hubs(?:\/|$)/;

/** What a URL's path and query say about the client endpoint. */
export type ClientEndpoint =
  /** `clientPath` is the path where a pattern of `paths` matched it, else null. */
  | { readonly kind: "endpoint"; readonly hub: string; readonly clientPath: string | null }
  /** The path is the client endpoint's; the hub name is invalid. */
  | { readonly kind: "bad-hub"; readonly sentence: string }
  /** Another path. */
  | { readonly kind: "elsewhere" };

const ELSEWHERE: ClientEndpoint = { kind: "elsewhere" };

/**
 * Reads a URL on which a client may come: the client endpoint's, or one of the configuration's `paths`. There the query names no hub.
 *
 * Source: PROTOCOL.md, "Client endpoint". `query` is raw and without `?`.
 */
export function findClientEndpoint(path: string, query: string, paths: ClientPaths): ClientEndpoint {
  const endpoint = parseClientEndpoint(path, query);
  if (endpoint !== ELSEWHERE) return endpoint;
  const hub = paths.hubOf(path);
  return hub === null ? ELSEWHERE : { kind: "endpoint", hub, clientPath: path };
}

/**
 * Reads the client endpoint's URL.
 *
 * Shape:  `/ws/client`, `/ws/client/hubs/{hub}`, `/ws/client?hub={hub}` or `?hubs={hub}`, and the same without `/ws`;
 *         a trailing slash is allowed; the path counts before the query. The hub comes back in the form of `hubKey`.
 * Source: PROTOCOL.md, "Client endpoint". `query` is raw and without `?`.
 */
export function parseClientEndpoint(path: string, query: string): ClientEndpoint {
  const match = ENDPOINT.exec(path);
  if (match === null) return ELSEWHERE;
  if (NAMES_A_HUB.test(path)) return checkHub(percentDecode(match[1] ?? ""));
  const named = [...queryValues(query, "hub", 2), ...queryValues(query, "hubs", 2)];
  if (named.length > 1) return { kind: "bad-hub", sentence: "the query names more than one hub" };
  return named.length === 0 || named[0] === "" ? endpointOf(DEFAULT_HUB) : checkHub(named[0] ?? null);
}

function checkHub(hub: string | null): ClientEndpoint {
  // A part of the URL would keep all of it in memory for as long as the connection lives, with the token in its query.
  if (hub !== null && isHubName(hub)) return endpointOf(hubKey(ownCopy(hub)));
  return { kind: "bad-hub", sentence: `the hub's name must be ${HUB_RULE}` };
}

function endpointOf(hub: string): ClientEndpoint {
  return { kind: "endpoint", hub, clientPath: null };
}
