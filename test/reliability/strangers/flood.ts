import { RawWebSocket } from "../../support/raw-websocket.ts";

/** How many clients are opened at a time. */
const OPENING_AT_ONCE = 50;

/** Opens clients, a few at a time. */
export async function openClients(
  count: number,
  open: (index: number) => Promise<RawWebSocket>,
): Promise<RawWebSocket[]> {
  const clients: RawWebSocket[] = [];
  for (let from = 0; from < count; from += OPENING_AT_ONCE) {
    const indexes = Array.from({ length: Math.min(OPENING_AT_ONCE, count - from) }, (_, i) => from + i);
    clients.push(...(await Promise.all(indexes.map(open))));
  }
  return clients;
}

/** A client that opens its connection and reads nothing from then on. */
export async function openMute(port: number): Promise<RawWebSocket> {
  const client = await RawWebSocket.open({ port });
  client.pauseReading();
  return client;
}

/** Writes bytes once, or again and again until the signal or the connection's end, as fast as the other side takes them. */
export async function writeUntilEnd(
  client: RawWebSocket,
  bytes: Buffer,
  times: "again and again" | "once",
  signal: AbortSignal,
): Promise<void> {
  const { tcp } = client;
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  tcp.once("close", () => resolve());
  signal.addEventListener("abort", () => resolve());
  while (!tcp.destroyed && tcp.writable && !signal.aborted) {
    const isTaken = tcp.write(bytes);
    if (times === "once") return;
    const next = Promise.withResolvers<void>();
    if (isTaken) setImmediate(next.resolve);
    else tcp.once("drain", next.resolve);
    await Promise.race([next.promise, ended]);
  }
}

/** The kernel's figures of a process's memory, in bytes. */
export async function readMemory(pid: number): Promise<{ residentBytes: number; peakBytes: number }> {
  const status = await Bun.file(`/proc/${pid}/status`).text();
  const read = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1024;
  return { residentBytes: read("VmRSS"), peakBytes: read("VmHWM") };
}
