import type { Config } from "./schema.ts";

/** How a caller on this machine reaches the REST API. URLs without a slash at the end. */
export interface ApiAddress {
  /** Where calls go. */
  readonly endpoint: string;
  /** The URL whose host tokens name. It is the endpoint's own, unless `publicUrls` names other hosts only. */
  readonly audience: string;
}

/**
 * The URL of a listener, as a caller on this machine uses it.
 *
 * Shape: a wildcard address becomes that of the loopback interface, an IPv6 address gets its brackets.
 */
export function listenerUrl(tls: Config["listen"]["tls"], host: string, port: number): string {
  const reachable = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
  return `${tls === null ? "http" : "https"}://${bracketed(reachable)}:${port}`;
}

/** The URL under which clients reach the gateway that a configuration describes; null where the system chooses its port. */
export function clientsUrl({ publicUrls, listen }: Config): string | null {
  const configured = publicUrls.find((url) => !isApiUrl(url, listen));
  if (configured !== undefined) return asHttp(configured);
  return listen.port === 0 ? null : listenerUrl(listen.tls, listen.host, listen.port);
}

/**
 * How this machine reaches the REST API of the gateway that a configuration describes; null where the system chooses its port.
 *
 * Shape: with `listen.api` the entry of `publicUrls` that has its port, else the listener itself.
 */
export function apiAddress(config: Config): ApiAddress | null {
  const { publicUrls, listen } = config;
  const { api } = listen;
  if (api === null) {
    const url = clientsUrl(config);
    return url === null ? null : { endpoint: url, audience: url };
  }
  if (api.port === 0) return null;
  const named = publicUrls.find((url) => isApiUrl(url, listen));
  const endpoint = named === undefined ? listenerUrl(listen.tls, api.host, api.port) : asHttp(named);
  const [known = endpoint] = publicUrls;
  return { endpoint, audience: named === undefined ? asHttp(new URL(known).origin) : endpoint };
}

/** Human-readable lines that say where each listener of a configuration is. */
export function describeListeners({ listen: { host, port, tls, api } }: Config): string[] {
  const place = (one: { readonly host: string; readonly port: number }) => {
    const url = `${tls === null ? "http" : "https"}://${bracketed(one.host)}`;
    return one.port === 0 ? `${url}, on a free port` : `${url}:${one.port}`;
  };
  if (api === null) return [`clients and the REST API: ${place({ host, port })}`];
  return [`clients: ${place({ host, port })}`, `the REST API: ${place(api)}`];
}

/** Whether an entry of `publicUrls` has the port of the REST API's own listener, and of no other. */
function isApiUrl(text: string, { port, api }: Config["listen"]): boolean {
  const url = URL.parse(text);
  if (api === null || url === null || url.port !== String(api.port)) return false;
  return port !== api.port || url.hostname === bracketed(api.host);
}

function asHttp(url: string): string {
  let end = url.length;
  while (url[end - 1] === "/") end--;
  return url.slice(0, end).replace(/^ws/, "http");
}

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
