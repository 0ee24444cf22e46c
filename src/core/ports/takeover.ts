import type { JournalEntry } from "./journal.ts";

/**
 * What other nodes have written of their connections, for the node that has taken over the lease of one that is gone.
 *
 * Errors: rejects where the copies cannot be reached; to be called again then. `seize` rejects with `NewerForm` where only a newer
 *         version can read what is there. An unknown node has left nothing.
 */
export interface NodeJournals {
  /** Fences the node's replica, so that it can never write again even if it is still alive, and then reads it. */
  seize(nodeId: string): Promise<JournalEntry[]>;
  /** Forgets it. Entries that this node has taken into its own journal meanwhile have been copied when this resolves. */
  forget(nodeId: string): Promise<void>;
}

/**
 * This node's hold on its name among the nodes, renewed as long as it lives.
 *
 * Source: decision 0013.
 */
export interface Leases {
  /**
   * Takes over the lease of a node that was found gone. False where another node did, or the node came back.
   *
   * Errors: rejects where NATS cannot be reached.
   */
  claim(nodeId: string): Promise<boolean>;
  /** Gives up a claimed lease whose work is done; nobody takes it over again. */
  end(nodeId: string): Promise<void>;
}
