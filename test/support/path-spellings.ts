/** A send to the hub `chat` under one of the published families of paths. */
export interface SpelledSend {
  /** As it goes into the request line. */
  readonly target: string;
  /** The path and query that it means: what a token must name. */
  readonly meant: string;
}

const WS = "/ws/api/hubs/chat/messages";
const PLAIN = "/api/messages?hub=chat";
const PREVIEW = "/ws/api/v1/hubs/chat";

/**
 * Spellings of the REST API's paths that URL parsers take for the same path, though filters by prefix may not.
 *
 * Shape:  each is a send to the hub `chat`. `host` is the host of the absolute forms.
 */
export function spelledSends(host: string): SpelledSend[] {
  const family = (meant: string, targets: readonly string[]) => targets.map((target) => ({ target, meant }));
  return [
    ...family(WS, [WS, `${WS}/`, `${WS}?a=/ws/client`, ...detours(WS, host)]),
    ...family(PLAIN, [PLAIN, ...detours(PLAIN, host)]),
    ...family(PREVIEW, [PREVIEW, ...detours(PREVIEW, host)]),
    ...family(WS, [
      "/ws/client\\..\\api/hubs/chat/messages",
      "/ws/client/%2e%2e/api/hubs/chat/messages",
      "/ws/client/./../api/hubs/chat/messages",
      "/ws/client/hubs/chat/../../../api/hubs/chat/messages",
      "/ws/client/hubs/chat\\..\\..\\..\\api\\hubs\\chat\\messages",
      "/ws/client;/../api/hubs/chat/messages",
      "/ws\\api\\hubs\\chat\\messages",
    ]),
  ];
}

/** Ways to a path that begin at the client endpoint, or at nothing. */
function detours(path: string, host: string): string[] {
  const steps = ["..", "%2e%2e", "%2E.", ".%2e", "./..", "%2e/.."];
  return [
    ...steps.map((step) => `/client/${step}${path}`),
    ...steps.map((step) => `/ws/client/${step}/..${path}`),
    `/client\\..${path}`,
    `/client\\%2e%2e\\.${path}`,
    `/ws\\client\\..\\..${path.replaceAll("/", "\\")}`,
    `/.${path}`,
    `/..${path}`,
    // In a query it would belong to that.
    ...(path.includes("?") ? [] : [`${path}#x`, `${path}#/../../../../client`]),
    `http://${host}${path}`,
    `http://${path}`,
    `https://elsewhere.example${path}`,
    `http://user@${host}${path}`,
    `http://${host}/client/..${path}`,
    `http://${host}\\client\\..${path}`,
  ];
}
