import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { hearing } from "../../test/support/notices.ts";
import { dueOf, factsOf, idOf, statesOf } from "../../test/support/replica-stage.ts";
import type { JournalEntry } from "../core/ports/journal.ts";
import { type RecordBounds, ReplicaChanges } from "./replica-changes.ts";
import { formatMessage, parseMessage } from "./replica-message.ts";
import { ReplicaReplay } from "./replica-replay.ts";

const BOUNDS = { fullBytes: 1000, maxBytes: 2000 };

function changesWith(bounds: RecordBounds = BOUNDS): { changes: ReplicaChanges; tooLarge: string[] } {
  const tooLarge: string[] = [];
  const changes = new ReplicaChanges({
    bounds,
    form: () => 2,
    changed: () => {},
    report: hearing({ "replica-too-large": ({ facts }) => tooLarge.push(facts.connectionId) }),
  });
  changes.startSnapshot();
  return { changes, tooLarge };
}

/** A log as the server has it, and what the writer knows of it. */
class Log {
  readonly changes: ReplicaChanges;
  readonly #replay = new ReplicaReplay();
  #number = 0;
  #snapshot: ReturnType<ReplicaChanges["startSnapshot"]> | null = null;
  #part = 0;
  #isWhole = false;

  constructor(changes: ReplicaChanges) {
    this.changes = changes;
  }

  /** What a node that seizes it finds. */
  get entries(): JournalEntry[] {
    return this.#replay.entries;
  }

  /**
   * Writes one message, as `ReplicaWriter` does: a snapshot at first and after each failure. Returns whether what changed
   * before `begun` is acked by it, and calls `begun` where a batch or a snapshot begins.
   */
  write(fate: "acked" | "stored" | "lost", begun: () => void): boolean {
    if (!this.#isWhole && this.#snapshot === null) {
      this.#snapshot = this.changes.startSnapshot();
      this.#part = 0;
      begun();
    }
    const isSnapshot = this.#snapshot !== null;
    if (!isSnapshot) begun();
    const { isLast, text } = this.#snapshot?.next() ?? { ...this.changes.takeBatch(), isLast: true };
    const isAll = isSnapshot ? isLast : !this.changes.hasChanges;
    const head = { kind: isSnapshot ? "snapshot" : "batch", author: "a", number: ++this.#number, isLast } as const;
    const message = parseMessage(Buffer.from(formatMessage({ ...head, part: this.#part++ }, { text, form: 2 })));
    if (message === null) throw new Error(`no message: ${text}`);
    if (fate !== "lost") this.#replay.read(message);
    if (fate !== "acked") {
      this.changes.stop();
      this.#snapshot = null;
      this.#isWhole = false;
      return false;
    }
    if (!isLast) return false;
    this.#snapshot = null;
    this.#isWhole = true;
    this.changes.acked();
    return isAll;
  }

  /** A snapshot is due. */
  compact(): void {
    this.#isWhole = false;
  }
}

type Step = readonly [what: string, id: string];
const STEP: fc.Arbitrary<Step> = fc.tuple(
  fc.constantFrom(
    ...["connecting", "connecting", "connected", "connected", "due", "died", "revive", "settled", "compact"],
    ...["acked", "acked", "acked", "stored", "lost"],
  ),
  fc.constantFrom("a", "b", "c", "d", "e", "f", "g"),
);

/** For each connection, its entry after every step. */
class History {
  readonly #entries: ReplicaChanges["entries"];
  readonly #steps: Map<string, string>[] = [];

  constructor(entries: ReplicaChanges["entries"]) {
    this.#entries = entries;
  }

  get length(): number {
    return this.#steps.length;
  }

  record(): void {
    this.#steps.push(new Map([...this.#entries.all()].map(([id, { entry }]) => [id, JSON.stringify(entry)])));
  }

  /** Whether an entry (undefined: no entry) was that of the connection after this step or later. */
  had(id: string, entry: string | undefined, sinceStep: number): boolean {
    return this.#steps.slice(sinceStep).some((step) => step.get(id) === entry);
  }
}

function take([what, id]: Step, { entries }: ReplicaChanges, count: number): void {
  if (what === "connecting") entries.connecting(factsOf(id, { clientQuery: `n=${count}` }));
  if (what === "connected") entries.connected(id, `user ${count}`);
  if (what === "due") entries.due(dueOf(id, { dueSinceMs: count }));
  if (what === "died") entries.died(id, { diedAtMs: count, cause: "500", keptForMs: 0 });
  if (what === "revive") entries.revive([id], count);
  if (what === "settled") entries.settled(id);
}

/** Takes the steps, and calls `check` after each with the step from which on all is acked. */
function run(steps: readonly Step[], check: (log: Log, history: History, ackedStep: number) => void): void {
  const log = new Log(changesWith({ fullBytes: 160, maxBytes: 2000 }).changes);
  const history = new History(log.changes.entries);
  history.record();
  let ackedStep = 0;
  let begunStep = 0;
  for (const [count, step] of steps.entries()) {
    take(step, log.changes, count);
    history.record();
    if (step[0] === "compact") log.compact();
    if (step[0] === "acked" || step[0] === "stored" || step[0] === "lost") {
      const begun = () => {
        begunStep = history.length - 1;
      };
      if (log.write(step[0], begun)) ackedStep = begunStep;
    }
    check(log, history, ackedStep);
  }
}

describe("what the log has not heard yet", () => {
  test("always leaves a log whose replay is, for every connection, what was acked or newer", () => {
    fc.assert(
      fc.property(fc.array(STEP, { maxLength: 80, size: "max" }), (steps) => {
        run(steps, (log, history, ackedStep) => {
          const replayed = new Map(log.entries.map((entry) => [idOf(entry), JSON.stringify(entry)]));
          for (const id of "abcdefg") {
            const found = replayed.get(id);
            if (!history.had(id, found, ackedStep)) throw new Error(`${id} in the log: ${found} is older than acked`);
          }
        });
      }),
      { numRuns: 500 },
    );
  });

  test("leaves no connection to nobody, and none for long to both, when the node goes on in a new log", () => {
    fc.assert(
      fc.property(fc.array(STEP, { maxLength: 60, size: "max" }), (steps) => {
        let old: Log | null = null;
        run(steps, (log) => {
          old = log;
        });
        if (old === null) return;
        const { changes, entries } = old as Log;
        const live = [...changes.entries.all()];
        const surelyCopied = live.filter(([, { trace }]) => trace === "copied").map(([id]) => id);
        const copied = changes.dropCopied();
        expect(copied).toEqual(surelyCopied);
        const others = new Set(entries.map(idOf));
        expect(copied.filter((id) => !others.has(id))).toEqual([]);
        const next = new Log(changes);
        while (!next.write("acked", () => {}) || changes.hasChanges);
        const kept = live.map(([id]) => id).filter((id) => !copied.includes(id));
        expect(next.entries.map(idOf)).toEqual(kept);
      }),
      { numRuns: 500 },
    );
  });

  test("counts as copied what was acked in the whole, in a batch or a snapshot", () => {
    const { changes } = changesWith({ fullBytes: 260, maxBytes: 2000 });
    const log = new Log(changes);
    for (const id of ["c1", "c2", "c3"]) changes.entries.connecting(factsOf(id));
    expect(log.write("acked", () => {})).toBe(false);
    const unfinished = [...changes.entries.all()].map(([, { trace }]) => trace);
    expect(unfinished).toEqual(["perhaps", "perhaps", "none"]);
    while (!log.write("acked", () => {}));
    changes.entries.connecting(factsOf("c4"));
    changes.takeBatch();
    expect(changes.dropCopied()).toEqual(["c1", "c2", "c3"]);
    expect([...changes.entries.all()].map(([id]) => id)).toEqual(["c4"]);
  });

  test("writes nothing of a connection that came and went between two messages", () => {
    const { changes } = changesWith();
    changes.entries.connecting(factsOf("c1"));
    changes.entries.connected("c1", "ann");
    changes.entries.settled("c1");
    expect(changes.hasChanges).toBe(false);
    expect(changes.takeBatch()).toEqual({ form: 2, text: "", bytes: 0 });
  });

  test("writes that it went where a message that is under way may have it", () => {
    const { changes } = changesWith();
    changes.entries.connecting(factsOf("c1"));
    changes.takeBatch();
    changes.entries.settled("c1");
    expect(changes.takeBatch().text).toBe('[5,"c1"]');
  });

  test("writes the name alone of one that the log has, and all of one that it may not have", () => {
    const { changes } = changesWith();
    for (const id of ["c1", "c2"]) changes.entries.connecting(factsOf(id));
    changes.takeBatch();
    changes.acked();
    changes.entries.connecting(factsOf("c3"));
    changes.takeBatch();
    for (const id of ["c1", "c3"]) changes.entries.connected(id, "bob");
    const { text } = changes.takeBatch();
    expect(text).toStartWith('[4,"c1","bob"],[1,["c3","chat","bob"');
  });

  test("fills a message up to its bound and leaves the rest for the next", () => {
    const { changes } = changesWith();
    for (let index = 0; index < 50; index++) changes.entries.connecting(factsOf(`c${index}`));
    const log = new Log(changes);
    log.compact();
    let count = 0;
    while (changes.hasChanges) {
      const { bytes } = changes.takeBatch();
      expect(bytes).toBeLessThanOrEqual(BOUNDS.fullBytes);
      expect(bytes).toBeGreaterThan(BOUNDS.fullBytes / 2 - (changes.hasChanges ? 0 : BOUNDS.fullBytes));
      count++;
    }
    expect(count).toBeGreaterThan(3);
  });

  test("gives a record past the bound a message of its own, and leaves out one that fits into none", () => {
    const { changes, tooLarge } = changesWith();
    const ofLength = (id: string, length: number) =>
      changes.entries.connecting(factsOf(id, { claims: "x".repeat(length) }));
    changes.entries.connecting(factsOf("c1"));
    ofLength("long", 1500);
    ofLength("too long", 2500);
    changes.entries.connecting(factsOf("c2"));
    const log = new Log(changes);
    while (!log.write("acked", () => {}));
    expect(tooLarge).toEqual(["too long"]);
    expect(statesOf(log.entries)).toEqual(["c1 connecting", "long connecting", "c2 connecting"]);
    expect(changes.dropCopied()).toEqual(["c1", "long", "c2"]);
  });

  test("counts one as not copied any more whose new state fits into no message", () => {
    const { changes } = changesWith();
    const log = new Log(changes);
    for (const id of ["c1", "c2"]) changes.entries.connecting(factsOf(id));
    while (!log.write("acked", () => {}));
    changes.entries.due(dueOf("c1", { end: { code: 1000, reason: "x".repeat(2500) } }));
    while (!log.write("acked", () => {}));
    expect(changes.dropCopied()).toEqual(["c2"]);
  });

  test("keeps no list of changes while nothing is copied", () => {
    const { changes } = changesWith();
    changes.entries.connecting(factsOf("c1"));
    changes.stop();
    changes.entries.connecting(factsOf("c2"));
    expect(changes.hasChanges).toBe(false);
    const log = new Log(changes);
    while (!log.write("acked", () => {}));
    expect(statesOf(log.entries)).toEqual(["c1 connecting", "c2 connecting"]);
  });
});
