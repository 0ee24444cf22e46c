import { JetStreamApiError, type JetStreamManager, type StreamInfo } from "@nats-io/jetstream";

/** Nodes that start together look again at different times, up to this much later. */
const MAX_PAUSE_MS = 250;

/**
 * Looks for a stream; where it is missing, once more after a random pause. Resolves with null where it is to be made.
 *
 * Why:    nodes that start together would all make it at the same moment, and nats-server 2.9.10 was seen to stop answering
 *         everybody when five did, about once in 600 times. With the pause one makes it and the others find it.
 * Errors: rejects where the servers do not answer.
 */
export async function findStream(manager: JetStreamManager, name: string): Promise<StreamInfo | null> {
  const found = await look(manager, name);
  if (found !== null) return found;
  await new Promise((resolve) => setTimeout(resolve, Math.random() * MAX_PAUSE_MS));
  return await look(manager, name);
}

/** Whether an error says that a stream is not there. */
export function isMissing(error: unknown): boolean {
  return error instanceof JetStreamApiError && error.status === 404;
}

async function look(manager: JetStreamManager, name: string): Promise<StreamInfo | null> {
  try {
    return await manager.streams.info(name);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}
