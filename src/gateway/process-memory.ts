import type { ProcessMemory } from "../core/memory-watch.ts";

/** The memory of this process. */
export const processMemory: ProcessMemory = {
  residentBytes: () => process.memoryUsage.rss(),
  collect() {
    Bun.gc(true);
    Bun.shrink();
  },
};
