import { FFIType, ptr } from "bun:ffi";
import { readdirSync } from "node:fs";
import { openCLibrary } from "./c-library.ts";

const SOL_SOCKET = 1;
const SO_ACCEPTCONN = 30;
const SO_ATTACH_REUSEPORT_CBPF = 51;

/** The one instruction of the program: return a constant. Source: linux/bpf_common.h, `BPF_RET | BPF_K`. */
const BPF_RETURN_CONSTANT = 0x06;

/** Of two listeners that share a port, the one that was opened later. */
const SECOND = 1;

/**
 * Has the kernel give every new connection at a port to the later one of the two listeners that this process has there, so that the
 * earlier one can take what waits in its queue before it is closed: closing it resets what waits.
 *
 * Shape:  false where the kernel does not do it (another system than Linux); new connections go to either of them then. When one
 *         of the two is closed, the other gets all: the constant names none, and the kernel chooses as if there were no program.
 * Cost:   looks once at every file descriptor of the process.
 * Source: socket(7), `SO_ATTACH_REUSEPORT_CBPF`; decision 0041.
 */
export function steerToLater(port: number): boolean {
  const c = openCLibrary({
    getsockopt: { args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
    setsockopt: { args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
    getsockname: { args: [FFIType.i32, FFIType.ptr, FFIType.ptr], returns: FFIType.i32 },
  });
  if (c === null) return false;
  const length = new Uint32Array(1);
  const value = new Uint32Array(1);
  const name = Buffer.alloc(128);
  const isListener = (descriptor: number): boolean => {
    length[0] = value.byteLength;
    if (c.getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, ptr(value), ptr(length)) !== 0 || value[0] !== 1)
      return false;
    length[0] = name.length;
    // Both families have the port behind the family.
    return c.getsockname(descriptor, ptr(name), ptr(length)) === 0 && name.readUInt16BE(2) === port;
  };
  // struct sock_filter and struct sock_fprog of linux/filter.h.
  const filter = Buffer.alloc(8);
  filter.writeUInt16LE(BPF_RETURN_CONSTANT, 0);
  filter.writeUInt32LE(SECOND, 4);
  const program = Buffer.alloc(16);
  program.writeUInt16LE(1, 0);
  program.writeBigUInt64LE(BigInt(ptr(filter)), 8);
  const attach = (descriptor: number): boolean =>
    c.setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, ptr(program), program.length) === 0;
  // With the same port at another address, another pair of listeners may be among them; that one is steered alike, or is alone.
  const descriptors = readdirSync("/proc/self/fd").map(Number).filter(isListener);
  return descriptors.length > 1 && descriptors.map(attach).every((isAttached) => isAttached);
}
