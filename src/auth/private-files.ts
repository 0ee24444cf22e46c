import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  type Stats,
  unlinkSync,
  writeFileSync,
} from "node:fs";

/**
 * Folders and files in the data folder that only their owner may read.
 *
 * The data folder may be open to others, as a Kubernetes volume is to the group `fsGroup`. So no symbolic link in it is followed: it
 * could lead to any file of hubwire's user. Source: decision 0022.
 */

const OPEN_TO_OTHERS = 0o077;
/** Far more than any key or name that is kept in a file. */
const MAX_TEXT_BYTES = 65_536;

/** Something else than a regular file is in the place of one: a symbolic link, a pipe, a folder. No later try will do better. */
export class NotRegularFile extends Error {
  readonly code = "EFTYPE";

  constructor(path: string) {
    super(`${path} is not a regular file: move it away`);
    this.name = "NotRegularFile";
  }
}

/** Makes a folder with mode 0700 where it is missing, and those above it. One that is there stays as it is. */
export function makeFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
}

/**
 * Makes an empty file with mode 0600 where it is missing, else closes the one that is there to others.
 *
 * It never opens a file that is there: when a process closes a file, by any descriptor, the kernel drops all locks of that process on
 * it, SQLite's too. Source: POSIX, fcntl.
 *
 * Errors: throws where there can be no such file, and where something else than a regular file is in its place.
 */
export function makePrivateFile(path: string): void {
  try {
    closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    if (!isCode(error, "EEXIST")) throw error;
    closeToOthers(path);
  }
}

/**
 * Takes group and others their rights to a file, where it is there and belongs to this process's user.
 *
 * Errors: throws where something else than a regular file is in its place.
 */
export function closeToOthers(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  refuseOther(path, found);
  if ((found.mode & OPEN_TO_OTHERS) === 0) return;
  try {
    chmodSync(path, 0o600);
  } catch (error) {
    // Another user's file, which its group may write, or a disk that is read only.
    if (!isCode(error, "EPERM") && !isCode(error, "EROFS")) throw error;
  }
}

/**
 * Reads a text file; null if it does not exist. Its mode stays, since its owner may share it with a group.
 *
 * Errors: throws where it cannot be read, is longer than 64 KiB, or is something else than a regular file.
 */
export function readPrivateText(path: string): string | null {
  let file: number;
  try {
    // A pipe would be waited for.
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (isCode(error, "ENOENT")) return null;
    throw isCode(error, "ELOOP") ? new NotRegularFile(path) : error;
  }
  try {
    const found = fstatSync(file);
    refuseOther(path, found);
    if (found.size > MAX_TEXT_BYTES) throw new Error(`${path} is longer than ${MAX_TEXT_BYTES} bytes`);
    return readFileSync(file, "utf8");
  } finally {
    closeSync(file);
  }
}

/** Removes a file or a symbolic link, where there is one. `rmSync` with `force` throws EFAULT below a path that is not a folder. */
export function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!isCode(error, "ENOENT") && !isCode(error, "ENOTDIR")) throw error;
  }
}

/** Writes a text file with mode 0600 in the place of the one before. Errors: throws where it cannot; the file is then what it was. */
export function replacePrivateText(path: string, text: string): void {
  const draft = `${path}.draft`;
  removeFile(draft);
  writeFileSync(draft, text, { mode: 0o600, flag: "wx" });
  renameSync(draft, path);
}

function refuseOther(path: string, found: Stats): void {
  if (!found.isFile()) throw new NotRegularFile(path);
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
