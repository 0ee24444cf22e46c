import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { connect } from "node:net";

/** NATS's own. */
const DEFAULT_PORT = 4222;

/**
 * Resolves with the first line of a server, or the start of one that is longer than a packet.
 *
 * Errors: rejects where it says nothing in time.
 */
export async function readGreeting(server: string, timeoutMs: number): Promise<string> {
  return await greetedBy(server, AbortSignal.timeout(timeoutMs));
}

/**
 * Resolves when any of the servers has said the first line that every NATS server says; all sockets are closed then.
 *
 * To be asked before the client is: that one leaves a socket open with each first try that is taken and not answered, and a
 * server that hangs would cost a node one after the other.
 *
 * Errors: rejects with the cause at the first server where none does; `signal` ends it.
 */
export async function greeted(servers: readonly string[], timeoutMs: number, signal: AbortSignal): Promise<void> {
  const end = new AbortController();
  const ends = AbortSignal.any([signal, end.signal, AbortSignal.timeout(timeoutMs)]);
  try {
    await Promise.any(servers.map((server) => greetedBy(server, ends)));
  } catch (error) {
    throw firstOf(error);
  } finally {
    end.abort();
  }
}

function firstOf(error: unknown): unknown {
  return error instanceof AggregateError ? firstOf(error.errors[0]) : error;
}

/** A name may stand for several servers, of which the first may be the one that hangs. */
async function greetedBy(server: string, signal: AbortSignal): Promise<string> {
  const { hostname, port } = new URL(server.includes("://") ? server : `nats://${server}`);
  // An address of IPv6 stands in brackets there.
  const addresses = await lookup(hostname.replace(/^\[|\]$/g, ""), { all: true });
  signal.throwIfAborted();
  return await Promise.any(addresses.map(({ address }) => greetedAt(address, Number(port || DEFAULT_PORT), signal)));
}

async function greetedAt(address: string, port: number, signal: AbortSignal): Promise<string> {
  const socket = connect(port, address);
  // What comes when nobody waits any more is of no interest.
  socket.on("error", () => {});
  try {
    const said = once(socket, "data", { signal });
    const closed = once(socket, "close", { signal }).then((): never => {
      throw new Error("the server closed the connection");
    });
    const [bytes] = (await Promise.race([said, closed])) as [Buffer];
    return bytes.toString("latin1");
  } catch (error) {
    throw signal.reason instanceof DOMException && signal.reason.name === "TimeoutError" ? new Error("timeout") : error;
  } finally {
    socket.destroy();
  }
}
