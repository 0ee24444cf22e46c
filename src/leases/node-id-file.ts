import { join } from "node:path";
import { makeFolder, readPrivateText, replacePrivateText } from "../auth/private-files.ts";
import { isNodeId } from "../protocol/connection-id.ts";

const FILE_NAME = "node-id";

/**
 * The name that the last process in this folder went by among the nodes; null where there was none, or the file holds no such name.
 *
 * Errors: throws where a file that is there cannot be read.
 */
export function readNodeId(dataDir: string): string | null {
  const text = readPrivateText(join(dataDir, FILE_NAME))?.trim() ?? "";
  return isNodeId(text) ? text : null;
}

/**
 * Keeps this process's name for the next one in the folder (made with mode 0700 where it is missing; the file has 0600).
 *
 * Errors: throws where the disk does not take it; the file is then what it was.
 */
export function writeNodeId(dataDir: string, nodeId: string): void {
  makeFolder(dataDir);
  replacePrivateText(join(dataDir, FILE_NAME), `${nodeId}\n`);
}
