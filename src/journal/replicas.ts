import { randomBytes } from "node:crypto";
import type { JournalEntry } from "../core/ports/journal.ts";
import type { NodeJournals } from "../core/ports/takeover.ts";
import { isConnectionId } from "../protocol/connection-id.ts";
import { areHeaderTexts } from "../protocol/facts.ts";
import { NEWEST_FORM, NewerForm, OLDEST_FORM } from "../protocol/forms.ts";
import { isHubName, isName } from "../protocol/names.ts";
import type { Report } from "../protocol/notices.ts";
import { factsOf } from "./entries.ts";
import { formatMessage, formOf, parseMessage } from "./replica-message.ts";
import { ReplicaReplay } from "./replica-replay.ts";
import type { ReplicaStream } from "./replica-stream.ts";

/** What reading the replicas of others needs. */
export interface ReplicasOptions {
  readonly stream: ReplicaStream;
  /** Of this node's own copy. */
  readonly whenReplicated: () => Promise<void>;
  readonly report: Report;
}

/**
 * The other nodes' replicas.
 *
 *     seize:  fence ─▶ the replica up to the fence, replayed          its writer expects another last message: always refused
 *     forget: own copy is complete ─▶ fence ─▶ all in front of the fence is removed
 *
 * A fence stays in each replica that was ever seized: a node that was cut off for days must still find it.
 */
export class Replicas implements NodeJournals {
  readonly #options: ReplicasOptions;

  constructor(options: ReplicasOptions) {
    this.#options = options;
  }

  async seize(nodeId: string): Promise<JournalEntry[]> {
    const { stream, report } = this.#options;
    const fence = await this.#fence(nodeId);
    const replay = new ReplicaReplay();
    let count = 0;
    await stream.read(nodeId, fence, ({ bytes }) => {
      const message = parseMessage(bytes);
      if (message === null && formOf(bytes) > NEWEST_FORM)
        throw new NewerForm(`the replica of ${nodeId}`, formOf(bytes));
      if (message === null) count++;
      else replay.read(message);
    });
    const entries = replay.entries.filter(isSound);
    count += replay.entries.length - entries.length;
    if (count > 0) report({ kind: "replica-skipped", nodeId, count });
    return entries;
  }

  async forget(nodeId: string): Promise<void> {
    const { stream, whenReplicated } = this.#options;
    await whenReplicated();
    await stream.purge(nodeId, await this.#fence(nodeId));
  }

  /** Resolves with its sequence. */
  #fence(nodeId: string): Promise<number> {
    const author = randomBytes(6).toString("base64url");
    const head = { kind: "fence", author, number: 0, part: 0, isLast: true } as const;
    // Every version must be able to read it.
    const text = formatMessage(head, { text: "", form: OLDEST_FORM });
    return this.#options.stream.append(nodeId, text, null);
  }
}

/** Whether an event can be made of an entry: its names are names, and no value of it would end a header's line. */
function isSound(entry: JournalEntry): boolean {
  const facts = factsOf(entry);
  const { connectionId, hub, userId } = facts;
  const isNamed = isConnectionId(connectionId) && isHubName(hub) && (userId === null || isName(userId));
  return isNamed && areHeaderTexts(facts);
}
