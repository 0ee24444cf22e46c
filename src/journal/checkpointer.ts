import { JournalThread } from "./journal-thread.ts";

/** How many writes of rows the WAL takes before it is played into the file; each is about two pages of 4 kB. */
const WRITES_PER_CHECKPOINT = 4000;

/**
 * Has the WAL played into the file, in a second thread: the commits need not wait for that.
 *
 *     writes ─▶ enough ─▶ the thread plays what is there ─▶ the next batch plays the few that came meanwhile
 *
 * Why both: the WAL can be begun anew only when all of it has been played, and under load only the writer can say when.
 * It waits a few milliseconds for the disk then; with all 16 MB it took 25 to 50. The thread is started when first needed.
 */
export class Checkpointer {
  readonly #path: string;
  #thread: JournalThread | null = null;
  #writeCount = 0;
  #underWay: Promise<void> | null = null;
  #isFinishDue = false;

  constructor(path: string) {
    this.#path = path;
  }

  wrote(writeCount: number): void {
    this.#writeCount += writeCount;
    if (this.#writeCount < WRITES_PER_CHECKPOINT || this.#underWay !== null || this.#isFinishDue) return;
    this.#underWay = this.#ask()
      // A thread that died did no harm: the writer plays the WAL itself when it has grown to twice its size.
      .catch(() => null)
      .then(() => {
        this.#underWay = null;
        this.#isFinishDue = true;
      });
  }

  /** Whether the next batch is to play the rest; true once for each checkpoint. */
  takeFinish(): boolean {
    if (!this.#isFinishDue) return false;
    this.#isFinishDue = false;
    this.#writeCount = 0;
    return true;
  }

  /** Ends the thread, at any moment of its work: `end` resolves then. */
  giveUp(): void {
    this.#thread?.end();
  }

  /** To be called before the file is closed. May be called twice. */
  async end(): Promise<void> {
    await this.#underWay;
    this.#thread?.end();
    this.#thread = null;
  }

  /** Rejects also where the system has no thread to give. */
  async #ask(): Promise<void> {
    this.#thread ??= new JournalThread({
      damaged: () => {},
      died: () => {
        this.#thread = null;
      },
    });
    await this.#thread.ask<"checkpointed">(["checkpoint", this.#path]);
  }
}
