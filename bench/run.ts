import { clusterCall, clusterFanOut, clusterSubjects } from "./rows/cluster.ts";
import { echo } from "./rows/echo.ts";
import { type Row, Tools } from "./tools.ts";

/** npm run bench -- [--seconds N] [--pairs N] [ROW | GROUP-…] */

const ROWS: readonly Row[] = [echo, clusterFanOut, clusterCall, clusterSubjects];

const words = process.argv.slice(2);
const effort = { seconds: takeNumber("--seconds", 3), pairs: takeNumber("--pairs", 3) };
const chosen =
  words.length === 0
    ? ROWS
    : ROWS.filter(({ name }) => words.some((word) => name === word || name.startsWith(`${word}-`)));
if (chosen.length === 0) {
  console.error(`There is no such row. Rows: ${ROWS.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}
// Bun's fetch would ask a proxy even for this machine.
process.env["NO_PROXY"] = "127.0.0.1,localhost";
const lines = [
  "| row | what | ours | theirs | ratio | lost | target | |",
  "| --- | --- | --- | --- | --- | --- | --- | --- |",
];
for (const row of chosen) {
  await using tools = new Tools(effort);
  console.error(`${row.name} …`);
  const { ours, theirs, ratio, lost, isMet } = await row.run(tools);
  const verdict = isMet === null ? "" : isMet ? "met" : "missed";
  lines.push(`| ${[row.name, row.what, ours, theirs, ratio, lost, row.target, verdict].join(" | ")} |`);
}
console.log(lines.join("\n"));
process.exit(0);

/** Takes an option with its number out of the words. */
function takeNumber(name: string, fallback: number): number {
  const at = words.indexOf(name);
  if (at === -1) return fallback;
  const [, value] = words.splice(at, 2);
  const number = Number(value);
  if (!(number > 0)) {
    console.error(`${name} needs a number above 0`);
    process.exit(2);
  }
  return number;
}
