import type { Core, NodeParts } from "./wiring.ts";

/** What the running process is doing now, and what has happened since it started: the answer to `GET /stats` on the control socket. */
export function readStats(node: NodeParts, core: Core) {
  return {
    now: {
      connections: core.registry.size,
      pendingUpgrades: core.admission.pendingCount,
      waitingDisconnects: core.redelivery.waitingCount,
      journalQueue: node.journalQueueLength(),
      upstreams: core.upstream.listLoads(),
    },
    sinceStart: core.meters,
  };
}
