import { cpuSeconds, sendRequests } from "./gateway.ts";
import type { Load, LoadReport } from "./load.ts";

/** A gateway by its port and process. */
export interface Target {
  readonly port: number;
  readonly pid: number;
}

export interface BroadcastOptions {
  /** Clients are spread evenly over all of them; the first is called. */
  readonly gateways: readonly Target[];
  readonly clients: number;
  readonly seconds: number;
  /** Broadcasts a second; left out: as fast as calls are answered. */
  readonly rate?: number;
  /** Calls at the same time. */
  readonly callers?: number;
  /** Where clients connect. Default: a gateway's path. */
  readonly path?: string;
  /** The call for one broadcast. Default: a gateway's REST API. */
  readonly request?: string;
  /** Further processes whose CPU is told apart. */
  readonly others?: readonly number[];
}

export interface BroadcastResult {
  /** From the first arrival to the last. Units: 1/s. */
  readonly deliveriesPerSecond: number;
  readonly deliveries: number;
  /** Of the broadcasts that were answered with 2xx. */
  readonly lost: number;
  /** Calls refused, for the gateway had too much to do. */
  readonly refused: number;
  readonly calls: LoadReport;
  /** CPU of all gateways, and of the others, for one delivery. Units: µs. */
  readonly cpuMicros: number;
  readonly otherCpuMicros: number;
}

/** Opens clients, sends to the whole hub for a while, and counts what arrives. */
export async function broadcast(load: Load, options: BroadcastOptions): Promise<BroadcastResult> {
  const { gateways, clients, seconds, rate, callers = 4, path = "/ws/client", others = [] } = options;
  await using stack = new AsyncDisposableStack();
  const share = Math.floor(clients / gateways.length);
  const receivers = [];
  for (const { port } of gateways) {
    receivers.push(stack.use(await load.start("recv", { conns: share, port, path })));
  }
  const [first = { port: 0, pid: 0 }] = gateways;
  const requests = load.requests(options.request === undefined ? sendRequests(first.port, [""]) : [options.request]);
  const cpuOf = (pids: readonly number[]) => pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
  const pids = [...new Set(gateways.map(({ pid }) => pid))];
  const [before, othersBefore] = [cpuOf(pids), cpuOf(others)];
  const pace = rate === undefined ? {} : { rate };
  const calls = await load.run("http", { conns: callers, port: first.port, requests, seconds, ...pace });
  const reports = await Promise.all(receivers.map((receiver) => receiver.stop()));
  const [used, othersUsed] = [cpuOf(pids) - before, cpuOf(others) - othersBefore];
  const deliveries = reports.reduce((sum, { messages }) => sum + messages, 0);
  const [starts, ends] = [reports.map(({ firstAt }) => firstAt), reports.map(({ lastAt }) => lastAt)];
  return {
    deliveriesPerSecond: deliveries / (Math.max(...ends) - Math.min(...starts)),
    deliveries,
    lost:
      calls.answers * share * gateways.length -
      deliveries +
      reports.reduce((sum, { failed, closed }) => sum + failed + closed, 0),
    refused: calls.bad,
    calls,
    cpuMicros: (used / deliveries) * 1e6,
    otherCpuMicros: (othersUsed / deliveries) * 1e6,
  };
}
