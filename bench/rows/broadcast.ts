import { broadcast } from "../broadcast.ts";
import { startBenchGateway } from "../gateway.ts";
import { startBackend } from "../nginx.ts";
import type { Row } from "../row.ts";

const CLIENTS = 2000;
const TARGET_PER_SECOND = 500_000;

/** One message to everybody in a hub, again and again. */
export const broadcastRow: Row = {
  name: "broadcast",
  what: `broadcast to ${CLIENTS} connections, 64 B`,
  unit: "deliveries/s",
  theirs: "",
  target: "≥ 500,000/s, none lost",
  isMet: ({ ours, lost }) => ours >= TARGET_PER_SECOND && lost === 0,
  prepare: async (bench, stack) => {
    const { load, seconds } = bench;
    const backend = stack.use(await startBackend());
    const gateway = stack.use(await startBenchGateway(bench, backend));
    return {
      ours: async () => {
        const result = await broadcast(load, { gateways: [gateway], clients: CLIENTS, seconds });
        return {
          value: result.deliveriesPerSecond,
          lost: result.lost,
          details: { "calls refused": result.refused, "CPU µs per delivery": result.cpuMicros },
        };
      },
    };
  },
};

/** What one delivery costs with many members against few, at the same number of deliveries a second. */
export const fanOutCostRow: Row = {
  name: "fan-out",
  what: "CPU per delivery at 15,000 connections, 150,000 deliveries/s",
  unit: "µs",
  theirs: "at 100 connections",
  target: "≤ 1.2 ×",
  isMet: ({ ratio, lost }) => ratio <= 1.2 && lost === 0,
  prepare: async (bench, stack) => {
    const { load, seconds } = bench;
    const backend = stack.use(await startBackend());
    const gateway = stack.use(await startBenchGateway(bench, backend));
    const measure = async (clients: number) => {
      const rate = 150_000 / clients;
      const result = await broadcast(load, { gateways: [gateway], clients, seconds, rate, callers: 16 });
      return {
        value: result.cpuMicros,
        lost: result.lost + result.refused,
        details: { "deliveries/s": result.deliveriesPerSecond },
      };
    };
    return { ours: () => measure(15_000), theirs: () => measure(100) };
  },
};
