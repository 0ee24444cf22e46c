import { codeOf } from "../storage/database-file.ts";
import { NewerFile } from "../storage/migrations.ts";
import { checkpointFile, JournalFile } from "./journal-file.ts";
import type { Reply, Request } from "./operation.ts";

declare const self: Worker;

/** Errors of the system where no file will ever be made: the path is wrong, or the folder is somebody else's. */
const HOPELESS: ReadonlySet<string> = new Set([
  "EACCES",
  "EPERM",
  "ENOTDIR",
  "EEXIST",
  "EISDIR",
  "ELOOP",
  "ENAMETOOLONG",
  "EFTYPE",
]);

/** Answers the requests of the event loop, one after the other. This file is the journal's thread. */
function serve(port: Worker): void {
  let file: JournalFile | null = null;
  const reply = (message: Reply): void => port.postMessage(message);

  function answer(request: Request): Reply {
    switch (request[0]) {
      case "open": {
        const [, dataDir, synchronous] = request;
        const onDamaged = (movedTo: string, reason: string): void => reply(["damaged", movedTo, reason]);
        const opening = new JournalFile({ dataDir, synchronous, onDamaged });
        try {
          const nextPlace = opening.open();
          file = opening;
          return ["opened", nextPlace];
        } catch (error) {
          opening.close();
          return ["unopened", describe(error), error instanceof NewerFile || HOPELESS.has(codeOf(error))];
        }
      }
      case "replace":
        return replace(file, request[1]);
      case "batch":
        return ["batch", apply(request[1])];
      case "checkpoint":
        checkpointFile(request[1]);
        return ["checkpointed"];
      case "close":
        file?.close();
        file = null;
        return ["closed"];
    }
  }

  function apply(operations: Extract<Request, readonly ["batch", ...unknown[]]>[1]) {
    try {
      if (file === null) throw new Error("the journal's file is not open");
      return file.apply(operations);
    } catch (error) {
      return { failure: describe(error), results: null };
    }
  }

  port.onmessage = ({ data }: MessageEvent<Request>) => {
    reply(answer(data));
    if (data[0] === "batch" && data[2]) file?.finishCheckpoint();
  };
}

function replace(file: JournalFile | null, reason: string): Reply {
  try {
    if (file === null) throw new Error("the journal's file is not open");
    return ["opened", file.replaceLost(reason)];
  } catch (error) {
    return ["unopened", describe(error), false];
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

serve(self);
