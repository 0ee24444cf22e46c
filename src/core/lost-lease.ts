import { CLOSE } from "../protocol/close-causes.ts";
import { closeSpread } from "./drain.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Clock } from "./ports.ts";
import type { Registry } from "./registry.ts";

/**
 * Ends every connection that there is, since another node has taken over what this one owed.
 *
 * For those in `disowned` the other node sends the disconnect event, and nothing more is posted for them from now on. The others,
 * of which it cannot know, end as any connection does.
 *
 * Order:  what is disowned is so when this returns; connections are closed over `spreadMs`, since all their clients come back.
 * Source: the issue of many machines, "Crash of a node".
 */
export async function endOldConnections(
  parts: { readonly registry: Registry; readonly lifecycle: Lifecycle; readonly clock: Clock },
  { disowned, spreadMs }: { readonly disowned: ReadonlySet<string>; readonly spreadMs: number },
): Promise<void> {
  const connections = parts.registry.all();
  for (const connection of connections) if (disowned.has(connection.connectionId)) connection.isDisowned = true;
  await closeSpread(parts, connections, { spreadMs, cause: CLOSE.nodeCutOff });
}
