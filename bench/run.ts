import { readdirSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { Load } from "./load.ts";
import { type Measured, measureRow, type Row } from "./row.ts";
import { broadcastRow, fanOutCostRow } from "./rows/broadcast.ts";
import { clusterBroadcastRow, clusterCallRow, clusterCostRow } from "./rows/cluster.ts";
import { connectRow, idleRow, memoryRow } from "./rows/connections.ts";
import { echoManyRow, echoRow, latencyRow } from "./rows/echo.ts";
import { sendRows } from "./rows/sends.ts";
import { startRow } from "./rows/start.ts";
import { millionRow, subscriptionsRow } from "./rows/subscriptions.ts";

const ROWS: readonly Row[] = [
  echoRow,
  echoManyRow,
  latencyRow,
  broadcastRow,
  fanOutCostRow,
  ...sendRows,
  connectRow,
  memoryRow,
  idleRow,
  startRow,
  clusterBroadcastRow,
  clusterCostRow,
  clusterCallRow,
  subscriptionsRow,
];

/** They take long and hold no target: only where they are named. */
const MORE_ROWS: readonly Row[] = [millionRow];

const USAGE = `npm run bench -- [--seconds 3] [--pairs 3] [rows]

Rows: ${ROWS.map(({ name }) => name).join(" ")}
Only where named: ${MORE_ROWS.map(({ name }) => name).join(" ")}`;

/** Runs the rows that are named, or all, and prints the table. Returns the exit code. */
async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seconds: { type: "string", default: "3" },
      pairs: { type: "string", default: "3" },
      help: { type: "boolean", default: false },
    },
  });
  const seconds = Number(values.seconds);
  const pairs = Number(values.pairs);
  const unknown = positionals.filter((name) => ![...ROWS, ...MORE_ROWS].some((row) => row.name === name));
  if (values.help || unknown.length > 0 || !(seconds > 0) || !(pairs >= 1)) {
    console.error(unknown.length > 0 ? `no row ${unknown.join(", ")}\n${USAGE}` : USAGE);
    return values.help ? 0 : 2;
  }
  const rows =
    positionals.length === 0 ? ROWS : [...ROWS, ...MORE_ROWS].filter(({ name }) => positionals.includes(name));
  using load = new Load();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => endEarly(load));
  const lines: string[] = [];
  const notes: string[] = [];
  for (const row of rows) {
    console.error(`${row.name}: ${row.what}`);
    try {
      const measured = await measureRow(row, { load, seconds }, pairs);
      lines.push(lineOf(row, measured));
      notes.push(...notesOf(row, measured));
    } catch (fault) {
      console.error(fault);
      lines.push(`| ${row.name} | ${row.what} | failed |  |  |  |  | ${row.target} | missed |`);
    }
  }
  console.log(`${cpus().length} × ${cpus()[0]?.model}, ${pairs} pairs of ${seconds} s\n`);
  console.log("| row | what | ours | theirs | ratio | spread | lost | target | |");
  console.log("| --- | --- | ---: | ---: | ---: | --- | ---: | --- | --- |");
  console.log(`${lines.join("\n")}\n\n${notes.join("\n")}`);
  return 0;
}

/** Gateways have process groups of their own: neither the terminal's signal nor the end of this process reaches them. */
function endEarly(load: Load): never {
  for (const pid of descendants(process.pid)) {
    try {
      process.kill(pid, "SIGTERM");
    } catch {
      // It ended with its parent.
    }
  }
  load[Symbol.dispose]();
  process.exit(1);
}

function descendants(pid: number): number[] {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const children = tasks.flatMap(
    (task) => readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").match(/\d+/g) ?? [],
  );
  return children.map(Number).flatMap((child) => [...descendants(child), child]);
}

function lineOf(row: Row, { figures }: Measured): string {
  const isMet = row.isMet(figures);
  const theirs = figures.theirs === null ? "" : `${figure(figures.theirs)} (${row.theirs})`;
  return `| ${[
    row.name,
    row.what,
    `${figure(figures.ours)} ${row.unit}`,
    theirs,
    figures.theirs === null ? "" : figures.ratio.toFixed(2),
    figures.spread.map((ratio) => ratio.toFixed(2)).join("–"),
    String(figures.lost),
    row.target,
    isMet === null ? "said" : isMet ? "met" : "missed",
  ].join(" | ")} |`;
}

function notesOf(row: Row, { ours, theirs }: Measured): string[] {
  const text = (details: Readonly<Record<string, number>>) =>
    Object.entries(details)
      .map(([name, value]) => `${name} ${figure(value)}`)
      .join(", ");
  return [
    ...(Object.keys(ours).length === 0 ? [] : [`- ${row.name}, ours: ${text(ours)}`]),
    ...(Object.keys(theirs).length === 0 ? [] : [`- ${row.name}, theirs: ${text(theirs)}`]),
  ];
}

function figure(value: number): string {
  if (!Number.isFinite(value)) return "-";
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

process.exit(await main());
