import type { Synchronous } from "./operation.ts";

/** What the operator should hear of the journal. */
export interface JournalReport {
  /** The file was damaged: it stands under `movedTo` now. `reason` also says how much the new one has of it. */
  damaged(movedTo: string, reason: string): void;
  /** The file was removed, replaced or emptied while it was open. A new one is written from memory. */
  lost(reason: string): void;
  /** Called when `isWritable` turns false. */
  unwritable(reason: string): void;
  /** Called when `isWritable` turns true again. */
  writable(): void;
}

/** What the journal needs of the gateway. */
export interface SqliteJournalOptions {
  /** Its folder, made with mode 0700 where it is missing. */
  readonly dataDir: string;
  /** `normal`: what was resolved survives a crash of the process. `full`: a power cut too; every batch waits for the disk. */
  readonly synchronous: Synchronous;
  readonly report: JournalReport;
}
