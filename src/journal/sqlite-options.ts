import type { Report } from "../protocol/notices.ts";
import type { Synchronous } from "./operation.ts";

/** What the journal needs of the gateway. */
export interface SqliteJournalOptions {
  /** Its folder, made with mode 0700 where it is missing. */
  readonly dataDir: string;
  /** `normal`: what was resolved survives a crash of the process. `full`: a power cut too; every batch waits for the disk. */
  readonly synchronous: Synchronous;
  readonly report: Report;
}
