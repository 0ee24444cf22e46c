import { type DeadLetterEntry, MAX_CONNECTION_IDS } from "../admin/admin-socket.ts";
import { askForPage, askToChange } from "./admin-client.ts";
import type { DeadLettersCommand } from "./args.ts";

const COLUMNS: readonly (readonly [string, (entry: DeadLetterEntry) => string])[] = [
  ["connection", ({ connectionId }) => connectionId],
  ["hub", ({ hub }) => hub],
  ["user", ({ userId }) => userId],
  ["code", ({ closeCode }) => String(closeCode)],
  ["reason", ({ closeReason }) => closeReason],
  ["since", ({ since }) => since],
  ["died at", ({ diedAt }) => diedAt],
  ["cause", ({ cause }) => cause],
];

/**
 * Runs `hubwire dead-letters …` against the process at work in a data folder.
 *
 * Shape:  resolves with the ids that named no dead letter. A listing has a head line, and a tab between columns; control
 *         characters, which a client may write into its close reason, become spaces. JSON has the texts as they are.
 * Errors: rejects with a sentence where the process cannot be reached.
 */
export async function runDeadLetters(
  command: DeadLettersCommand,
  dataDir: string,
  print: (line: string) => void,
): Promise<readonly string[]> {
  if (command.name === "dead-letters list") {
    await list(dataDir, command.asJson, print);
    return [];
  }
  const change = command.name === "dead-letters retry" ? "retry" : "drop";
  const missing: string[] = [];
  let count = 0;
  for (const connectionIds of inParts(command.connectionIds)) {
    const done = await askToChange(dataDir, change, { connectionIds });
    count += done.count;
    missing.push(...done.missing);
  }
  const done = change === "retry" ? "to be sent again" : "dropped";
  print(`${count} ${count === 1 ? "dead letter" : "dead letters"} ${done}`);
  return missing;
}

async function list(dataDir: string, asJson: boolean, print: (line: string) => void): Promise<void> {
  const format = asJson ? formatJson : formatColumns;
  let after: number | null = 0;
  let isFirst = true;
  while (after !== null) {
    const page = await askForPage(dataDir, after);
    if (isFirst && !asJson) print(COLUMNS.map(([name]) => name).join("\t"));
    isFirst = false;
    for (const entry of page.deadLetters) print(format(entry));
    after = page.next;
  }
}

/** Characters that JSON allows and that would control a terminal are escaped. */
function formatJson(entry: DeadLetterEntry): string {
  return JSON.stringify(entry).replaceAll(
    /[\u007f-\u009f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function formatColumns(entry: DeadLetterEntry): string {
  return COLUMNS.map(([, read]) => read(entry).replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, " ")).join("\t");
}

/** The ids in as many parts as requests can carry; one part of null for all. */
function inParts(ids: readonly string[] | null): readonly (readonly string[] | null)[] {
  if (ids === null) return [null];
  const count = Math.ceil(ids.length / MAX_CONNECTION_IDS);
  return Array.from({ length: count }, (_, part) =>
    ids.slice(part * MAX_CONNECTION_IDS, (part + 1) * MAX_CONNECTION_IDS),
  );
}
