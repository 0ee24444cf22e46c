import { dlopen, type FFIFunction } from "bun:ffi";

/** Where the C library is: glibc, then musl. */
const C_LIBRARIES = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];

/** Functions of the C library on Linux, for what Bun does not pass on; null elsewhere, or where it cannot be loaded. */
export function openCLibrary<Functions extends Record<string, FFIFunction>>(
  functions: Functions,
): ReturnType<typeof dlopen<Functions>>["symbols"] | null {
  if (process.platform !== "linux") return null;
  for (const library of C_LIBRARIES) {
    try {
      return dlopen(library, functions).symbols;
    } catch {
      // Another C library, or none that can be loaded.
    }
  }
  return null;
}
