import { heapStats } from "bun:jsc";
import { readdirSync } from "node:fs";
import pino from "pino";
import { parseConfig } from "../../../src/config/load.ts";
import { type Gateway, startGateway } from "../../../src/gateway/gateway.ts";
import type { IndexName, Order, Probe, Report } from "./probed-gateway.ts";

/** The process behind `ProbedGateway`: a gateway alone, so that its memory and its descriptors can be told. */

const MAX_KEPT_FAULTS = 20;

interface Log {
  faultCount: number;
  readonly faults: string[];
  readonly undelivered: Map<string, number>;
}

interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly event?: string;
  /** How many events the line is about. */
  readonly count?: number;
}

function keep(log: Log, line: string): void {
  const { level, msg, event, count = 1 } = JSON.parse(line) as LogLine;
  if (level >= 50) {
    log.faultCount++;
    if (log.faults.length < MAX_KEPT_FAULTS) log.faults.push(line.trim());
  }
  if (msg === "event not delivered" && event !== undefined) {
    log.undelivered.set(event, (log.undelivered.get(event) ?? 0) + count);
  }
}

function probe({ registry }: Gateway, log: Log, names: readonly IndexName[]): Probe {
  Bun.gc(true);
  Bun.gc(true);
  const { objectTypeCounts: counts, heapSize, extraMemorySize } = heapStats();
  const inIndex = names.map(({ hub, kind, name }) =>
    kind === "hub" ? registry.hubSize(hub) : [...registry[kind](hub, name)].length,
  );
  return {
    rssBytes: process.memoryUsage.rss(),
    heapBytes: heapSize + extraMemorySize,
    descriptors: readdirSync("/proc/self/fd").length,
    connections: registry.size,
    indexEntries: inIndex.reduce((sum, size) => sum + size, 0),
    maps: counts["Map"] ?? 0,
    sets: counts["Set"] ?? 0,
    faultCount: log.faultCount,
    faults: log.faults,
    undelivered: Object.fromEntries(log.undelivered),
  };
}

const tell = (report: Report): void => void process.send?.(report);
const log: Log = { faultCount: 0, faults: [], undelivered: new Map() };
let gateway: Gateway | null = null;

process.on("message", async (order: Order) => {
  if (order.kind === "start") {
    const logger = pino({ level: "warn" }, { write: (line: string) => keep(log, line) });
    gateway = await startGateway(parseConfig(order.config), { log: logger });
    tell({ kind: "started", port: gateway.port });
  } else if (gateway !== null && order.kind === "probe") {
    tell({ kind: "probed", probe: probe(gateway, log, order.names) });
  } else if (order.kind === "cpu") {
    const { user, system } = process.cpuUsage();
    tell({ kind: "counted", cpuMs: (user + system) / 1000 });
  } else if (order.kind === "stop") {
    await gateway?.stop();
    tell({ kind: "stopped", faults: log.faults });
  }
});
process.on("disconnect", () => process.exit(0));
