import {
  type Authenticator,
  type connect,
  credsAuthenticator,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from "@nats-io/transport-node";
import type { LoginFiles } from "./login-files.ts";

/** How to reach the servers; files by absolute paths. */
export interface NatsOptions {
  readonly servers: readonly string[];
  readonly user: string | null;
  readonly password: string | null;
  readonly token: string | null;
  readonly credsFile: string | null;
  readonly tls: {
    readonly caFile: string | null;
    readonly certFile: string | null;
    readonly keyFile: string | null;
  } | null;
}

/** A server that has gone silent is noticed after two of these without an answer. */
const PING_INTERVAL_MS = 1500;
const MAX_PINGS_OUT = 2;

/** Between two tries to reach any of the servers, and a random addition so that nodes do not come back at the same time. */
export const RECONNECT_WAIT_MS = 250;
export const RECONNECT_JITTER_MS = 250;
/** How long a server may take to greet, and to take a login. */
export const CONNECT_TIMEOUT_MS = 2000;

/** What the client of NATS takes. */
export type ConnectOptions = NonNullable<Parameters<typeof connect>[0]>;

/** How the client connects, at first and after every loss: files are read anew each time. */
export function connectOptions(options: NatsOptions, files: LoginFiles): ConnectOptions {
  const authenticator = authenticatorOf(options, files);
  return {
    servers: [...options.servers],
    name: "hubwire",
    ...(authenticator === null ? {} : { authenticator }),
    ...tlsOf(options, files),
    timeout: CONNECT_TIMEOUT_MS,
    maxReconnectAttempts: -1,
    reconnectTimeWait: RECONNECT_WAIT_MS,
    reconnectJitter: RECONNECT_JITTER_MS,
    reconnectJitterTLS: RECONNECT_JITTER_MS,
    // Two refusals in a row would otherwise be the end: an account that is being changed refuses for a while.
    ignoreAuthErrorAbort: true,
    pingInterval: PING_INTERVAL_MS,
    maxPingOut: MAX_PINGS_OUT,
    noAsyncTraces: true,
  };
}

function authenticatorOf({ user, password, token, credsFile }: NatsOptions, files: LoginFiles): Authenticator | null {
  if (credsFile !== null) return credsAuthenticator(() => files.creds);
  if (token !== null) return tokenAuthenticator(token);
  if (user !== null) return usernamePasswordAuthenticator(user, password ?? "");
  return null;
}

/**
 * The client does not look at a URL's scheme: without this option TLS is the server's choice. It reads these fields at each connection,
 * and every field of one connection in one go.
 */
function tlsOf({ tls, servers }: NatsOptions, files: LoginFiles): Pick<ConnectOptions, "tls"> {
  if (tls === null) return servers.some((server) => server.startsWith("tls://")) ? { tls: {} } : {};
  const field = (name: "ca" | "cert" | "key") => ({ enumerable: true, get: () => files.tls[name] ?? undefined });
  return { tls: Object.defineProperties({}, { ca: field("ca"), cert: field("cert"), key: field("key") }) };
}
