import { type dlopen, FFIType, ptr } from "bun:ffi";
import { readdirSync } from "node:fs";
import { parseIpAddress } from "../config/ip-address.ts";
import type { Traffic } from "../core/ports/client-socket.ts";
import { openCLibrary } from "./c-library.ts";

const IPPROTO_TCP = 6;
const TCP_INFO = 11;
const AF_INET = 2;
const AF_INET6 = 10;

/** Fields of `struct tcp_info` by their offsets. Source: linux/tcp.h; `notsent_bytes` came last, with Linux 4.6. */
const BYTES_ACKED = 120;
const BYTES_RECEIVED = 128;
const NOTSENT_BYTES = 144;
const NEEDED_BYTES = 148;

/** For so long a list of descriptors serves for all that are looked for: 20,000 of them take some 5 ms to list. */
const LIST_LIFETIME_MS = 250;

/** The bytes with which an IPv6 address begins that contains an IPv4 address. */
const MAPPED_PREFIX = "00000000000000000000ffff";

const OWN_FUNCTIONS = {
  getsockopt: { args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  getpeername: { args: [FFIType.i32, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  getsockname: { args: [FFIType.i32, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
} as const;

type OwnFunctions = ReturnType<typeof dlopen<typeof OWN_FUNCTIONS>>["symbols"];

/** The other end of a TCP connection, as `Server.requestIP` gives it, and the port at this end. */
export interface TcpEnds {
  readonly address: string;
  readonly port: number;
  readonly localPort: number;
}

/**
 * Reads what the kernel knows of a client's TCP connection, which Bun does not pass on: bytes of a message that is not whole yet,
 * and how much of what was sent the client has taken.
 *
 * Only Linux tells it this way; elsewhere `open` returns null.
 * Cost:   finding a client's descriptor takes a listing of all; reading takes half a microsecond.
 * Source: decision 0024; tcp(7), `TCP_INFO`.
 */
export class TcpInfo {
  readonly #c: OwnFunctions;
  readonly #info = Buffer.alloc(256);
  readonly #name = Buffer.alloc(128);
  readonly #length = new Uint32Array(1);
  readonly #found = new WeakMap<object, number>();
  readonly #descriptors = new Map<string, number>();

  private constructor(c: OwnFunctions) {
    this.#c = c;
  }

  static open(): TcpInfo | null {
    const c = openCLibrary(OWN_FUNCTIONS);
    return c === null ? null : new TcpInfo(c);
  }

  /**
   * The descriptor of a connection between these ends; null where it is not found, or opened a moment ago. It is remembered for
   * `owner`, who asks for one connection only, and no more once that has closed.
   */
  find(owner: object, ends: TcpEnds): number | null {
    const known = this.#found.get(owner);
    if (known !== undefined) return known;
    const key = formatEnds(ends);
    if (key === null) return null;
    if (this.#descriptors.size === 0) this.#list();
    const listed = this.#descriptors.get(key);
    // Another connection may have the descriptor by now.
    if (listed === undefined || this.#endsOf(listed) !== key) return null;
    this.#found.set(owner, listed);
    return listed;
  }

  /** Null where the descriptor is not a TCP connection, or the kernel does not tell. */
  read(descriptor: number): Traffic | null {
    this.#length[0] = this.#info.length;
    const { getsockopt } = this.#c;
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, ptr(this.#info), ptr(this.#length)) !== 0) return null;
    if ((this.#length[0] ?? 0) < NEEDED_BYTES) return null;
    return {
      received: Number(this.#info.readBigUInt64LE(BYTES_RECEIVED)),
      delivered: Number(this.#info.readBigUInt64LE(BYTES_ACKED)),
      unsent: this.#info.readUInt32LE(NOTSENT_BYTES),
    };
  }

  #list(): void {
    for (const name of readdirSync("/proc/self/fd")) {
      const ends = this.#endsOf(Number(name));
      if (ends !== null) this.#descriptors.set(ends, Number(name));
    }
    setTimeout(() => this.#descriptors.clear(), LIST_LIFETIME_MS).unref();
  }

  #endsOf(descriptor: number): string | null {
    const peer = this.#readName(this.#c.getpeername, descriptor);
    if (peer === null) return null;
    const local = this.#readName(this.#c.getsockname, descriptor);
    return local === null ? null : `${peer.address}:${peer.port}:${local.port}`;
  }

  /** The address is in hexadecimal, 8 digits for IPv4 and for IPv6 addresses that contain one. */
  #readName(ask: OwnFunctions["getpeername"], descriptor: number): Omit<TcpEnds, "localPort"> | null {
    this.#length[0] = this.#name.length;
    if (ask(descriptor, ptr(this.#name), ptr(this.#length)) !== 0) return null;
    const family = this.#name.readUInt16LE(0);
    const port = this.#name.readUInt16BE(2);
    if (family === AF_INET) return { address: this.#name.toString("hex", 4, 8), port };
    return family === AF_INET6 ? { address: plainHex(this.#name.toString("hex", 8, 24)), port } : null;
  }
}

function formatEnds({ address, port, localPort }: TcpEnds): string | null {
  const bytes = parseIpAddress(address);
  return bytes === null ? null : `${plainHex(Buffer.from(bytes).toString("hex"))}:${port}:${localPort}`;
}

function plainHex(address: string): string {
  return address.startsWith(MAPPED_PREFIX) ? address.slice(MAPPED_PREFIX.length) : address;
}
