import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { connect } from "node:net";

/** NATS's own. */
const DEFAULT_PORT = 4222;

/** Finds the addresses of a name. */
type FindAddresses = (hostname: string) => Promise<readonly { readonly address: string }[]>;

const findBySystem: FindAddresses = (hostname) => lookup(hostname, { all: true });

/**
 * Resolves with the first line of a server, or the start of one that is longer than a packet.
 *
 * Errors: rejects where it says nothing in time.
 */
export async function readGreeting(server: string, timeoutMs: number): Promise<string> {
  using end = endAfter(timeoutMs);
  return await greetedBy(server, end.signal, findBySystem);
}

/**
 * Resolves when any of the servers has said the first line that every NATS server says; all sockets are closed then.
 *
 * To be asked before the client is: that one leaves a socket open with each first try that is taken and not answered, and a
 * server that hangs would cost a node one after the other.
 *
 * Errors: rejects with the cause at the first server where none does, within `timeoutMs` also where a name is not looked up; `signal`
 *         ends it.
 */
export async function greeted(
  servers: readonly string[],
  timeoutMs: number,
  signal: AbortSignal,
  find: FindAddresses = findBySystem,
): Promise<void> {
  using end = endAfter(timeoutMs, signal);
  try {
    await Promise.any(servers.map((server) => greetedBy(server, end.signal, find)));
  } catch (error) {
    throw firstOf(error);
  }
}

/**
 * A signal that ends with its scope, with `other`, or as timed out.
 *
 * Why not `AbortSignal.any` and `AbortSignal.timeout`: nothing but a weak reference may keep those alive while they are waited for.
 */
function endAfter(timeoutMs: number, other?: AbortSignal): Disposable & { readonly signal: AbortSignal } {
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(new DOMException("timeout", "TimeoutError")), timeoutMs);
  const follow = () => end.abort(other?.reason);
  if (other?.aborted === true) follow();
  other?.addEventListener("abort", follow);
  return {
    signal: end.signal,
    [Symbol.dispose]() {
      clearTimeout(timer);
      other?.removeEventListener("abort", follow);
      end.abort();
    },
  };
}

function firstOf(error: unknown): unknown {
  return error instanceof AggregateError ? firstOf(error.errors[0]) : error;
}

/** A name may have several servers, of which the first may be the one that hangs. */
async function greetedBy(server: string, signal: AbortSignal, find: FindAddresses): Promise<string> {
  const { hostname, port } = new URL(server.includes("://") ? server : `nats://${server}`);
  // A URL has an address of IPv6 in brackets.
  const addresses = await untilAborted(find(hostname.replace(/^\[|\]$/g, "")), signal);
  return await Promise.any(addresses.map(({ address }) => greetedAt(address, Number(port || DEFAULT_PORT), signal)));
}

/** The system's lookup cannot be ended, and may take longer than anything should wait for it. */
function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const end = () => reject(isTimeout(signal) ? new Error("timeout") : signal.reason);
    if (signal.aborted) end();
    signal.addEventListener("abort", end, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", end));
  });
}

function isTimeout({ reason }: AbortSignal): boolean {
  return reason instanceof DOMException && reason.name === "TimeoutError";
}

async function greetedAt(address: string, port: number, signal: AbortSignal): Promise<string> {
  const socket = connect(port, address);
  // A greeting that comes when nobody waits any more does not matter.
  socket.on("error", () => {});
  try {
    const said = once(socket, "data", { signal });
    const closed = once(socket, "close", { signal }).then((): never => {
      throw new Error("the server closed the connection");
    });
    const [bytes] = (await Promise.race([said, closed])) as [Buffer];
    return bytes.toString("latin1");
  } catch (error) {
    throw isTimeout(signal) ? new Error("timeout") : error;
  } finally {
    socket.destroy();
  }
}
