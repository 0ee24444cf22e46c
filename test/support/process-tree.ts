import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** What Linux tells of processes and their sockets. */

const ESTABLISHED = "01";

/** The ids of the processes that a process has started and that still run, in that order. */
export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
}

/** Whether a process runs. One that has ended is not counted while nobody has taken notice of its end. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command is in parentheses and may hold anything, parentheses and spaces too.
    return stat.slice(stat.lastIndexOf(")") + 2)[0] !== "Z";
  } catch {
    return false;
  }
}

/** How many connections that came in at a port of an IPv4 address a process holds. */
export function countConnections(pid: number, port: number): number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const rows = readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .map((row) => row.trim().split(/\s+/))
    .filter(([, address, , state]) => address?.endsWith(local) && state === ESTABLISHED);
  const sockets = new Set(rows.map((columns) => `socket:[${columns[9]}]`));
  const files = readdirSync(`/proc/${pid}/fd`).map((file) => readLink(`/proc/${pid}/fd/${file}`));
  return files.filter((file) => sockets.has(file)).length;
}

/** Empty for a file that has just been closed. */
function readLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
