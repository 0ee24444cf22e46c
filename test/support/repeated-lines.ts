import type { SourceFile } from "./architecture.ts";

/** How many lines in a row may not be the same in two places. */
const RUN = 6;

const IMPORT = /^(?:import|export)\s(?:[\w*\s{},$]*?\sfrom\s*)?["'][^"']+["'];?/gm;
const BRACKETS_ONLY = /^[[\](){};,]+$/;

/** A line that counts, without its indentation, and its number in the file. */
interface Counted {
  readonly text: string;
  readonly number: number;
}

/**
 * The runs of six lines that product code has twice, one sentence each. Imports, empty lines and lines of brackets do not count.
 *
 * Cost:   linear in the text: each run of six lines is looked up once.
 */
export function findRepeatedLines(files: readonly SourceFile[]): string[] {
  const places = new Map<string, string>();
  const faults: string[] = [];
  for (const { path, text } of files) {
    if (path.endsWith(".test.ts")) continue;
    const lines = countedLines(text);
    for (let start = 0; start + RUN <= lines.length; start++) {
      const run = lines.slice(start, start + RUN);
      const key = run.map((line) => line.text).join("\n");
      const place = `${path}:${run[0]?.number}`;
      const earlier = places.get(key);
      if (earlier === undefined) places.set(key, place);
      else faults.push(`${place}: repeats ${RUN} lines of ${earlier}`);
    }
  }
  return faults;
}

function countedLines(text: string): Counted[] {
  // What is taken out leaves its line breaks, so that the numbers stay right.
  const rest = text.replace(IMPORT, (statement) => statement.replace(/[^\n]/g, ""));
  return rest
    .split("\n")
    .map((line, index) => ({ text: line.trim(), number: index + 1 }))
    .filter((line) => line.text !== "" && !BRACKETS_ONLY.test(line.text));
}
