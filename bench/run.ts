import { readdirSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { REPOSITORY } from "../test/support/command.ts";
import { Baseline } from "./baseline.ts";
import { Load } from "./load.ts";
import { type Bench, type Measured, measureRow, type Row, USUAL_PAIRS } from "./row.ts";
import { broadcastRow, fanOutCostRow } from "./rows/broadcast.ts";
import { clusterBroadcastRow, clusterCallRow, clusterCostRow } from "./rows/cluster.ts";
import { connectClusterRow } from "./rows/cluster-connections.ts";
import { connectRow } from "./rows/connections.ts";
import { echoManyRow, echoRow, echoTlsRow, latencyHopRow, latencyIdleRow, latencyRow } from "./rows/echo.ts";
import { idleRow, memoryCyclesRow, memoryRow } from "./rows/memory.ts";
import { peerRows } from "./rows/peers.ts";
import { sendRows } from "./rows/sends.ts";
import { startRow } from "./rows/start.ts";
import { millionRow, subscriptionsRow } from "./rows/subscriptions.ts";

const ROWS: readonly Row[] = [
  echoRow,
  echoTlsRow,
  echoManyRow,
  latencyRow,
  latencyHopRow,
  latencyIdleRow,
  broadcastRow,
  fanOutCostRow,
  ...sendRows,
  connectRow,
  memoryRow,
  memoryCyclesRow,
  idleRow,
  startRow,
  clusterBroadcastRow,
  clusterCostRow,
  clusterCallRow,
  connectClusterRow,
  subscriptionsRow,
];

/** They take long and hold no target: only where they are named. */
const MORE_ROWS: readonly Row[] = [millionRow];

const ALL_ROWS = [...ROWS, ...peerRows, ...MORE_ROWS];

const USAGE = `npm run bench -- [--seconds 1] [--pairs ${USUAL_PAIRS}] [--peers] [--baseline REF] [rows]

Rows: ${namesOf(ROWS)}
With --peers, or where named: ${namesOf(peerRows)}
Only where named: ${namesOf(MORE_ROWS)}
--baseline compares with the gateway of another commit, in the rows where that can be.`;

interface Asked {
  readonly rows: readonly Row[];
  readonly seconds: number;
  /** Left out: as many as is usual for a row. */
  readonly pairs: number | undefined;
  readonly baseline: string | undefined;
}

/** Runs the rows that are named, or all, and prints the table. Returns the exit code. */
async function main(): Promise<number> {
  const asked = parse();
  if (typeof asked === "number") return asked;
  const { seconds, pairs } = asked;
  using load = new Load();
  using baseline = asked.baseline === undefined ? null : new Baseline(asked.baseline);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => endEarly([load, baseline]));
  const lines: string[] = [];
  const notes: string[] = [];
  for (const one of asked.rows) {
    const row = baseline === null ? one : baseline.against(one);
    const missing = one.missing?.() ?? [];
    if (row === null || missing.length > 0) {
      const why = row === null ? "says nothing about a commit" : `needs ${missing.join(", ")}, to be installed by apt`;
      notes.push(`- ${one.name} is left out: it ${why}`);
      continue;
    }
    console.error(`${row.name}: ${row.what}`);
    const { line, details } = await tell(row, { load, seconds, repository: REPOSITORY }, pairs);
    lines.push(line);
    notes.push(...details);
  }
  console.log(`${cpus().length} × ${cpus()[0]?.model}, pairs of ${seconds} s\n`);
  console.log("| row | what | ours | theirs | ratio | spread | pairs | lost | target | |");
  console.log("| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | --- | --- |");
  console.log(`${lines.join("\n")}\n\n${notes.join("\n")}`);
  return 0;
}

/** What is asked for, or the exit code where that is told by words alone. */
function parse(): Asked | number {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seconds: { type: "string", default: "1" },
      pairs: { type: "string" },
      peers: { type: "boolean", default: false },
      baseline: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  const seconds = Number(values.seconds);
  const pairs = values.pairs === undefined ? undefined : Number(values.pairs);
  const unknown = positionals.filter((name) => !ALL_ROWS.some((row) => row.name === name));
  if (values.help || unknown.length > 0 || !(seconds > 0) || !((pairs ?? USUAL_PAIRS) >= 1)) {
    console.error(unknown.length > 0 ? `no row ${unknown.join(", ")}\n${USAGE}` : USAGE);
    return values.help ? 0 : 2;
  }
  const named = ALL_ROWS.filter(({ name }) => positionals.includes(name));
  const unnamed = positionals.length === 0 ? ROWS : [];
  const rows = [...unnamed, ...named.filter((row) => !values.peers || !peerRows.includes(row))];
  return { rows: values.peers ? [...rows, ...peerRows] : rows, seconds, pairs, baseline: values.baseline };
}

/** Measures a row: its line of the table, and what is said below it. */
async function tell(
  row: Row,
  bench: Bench,
  pairs: number | undefined,
): Promise<{ line: string; details: readonly string[] }> {
  try {
    const measured = await measureRow(row, bench, pairs);
    return { line: lineOf(row, measured), details: notesOf(row, measured) };
  } catch (fault) {
    console.error(fault);
    return { line: `| ${row.name} | ${row.what} | failed |  |  |  |  |  | ${row.target} | missed |`, details: [] };
  }
}

function namesOf(rows: readonly Row[]): string {
  return rows.map(({ name }) => name).join(" ");
}

/** Gateways have process groups of their own: neither the terminal's signal nor the end of this process reaches them. */
function endEarly(kept: readonly (Disposable | null)[]): never {
  for (const pid of descendants(process.pid)) {
    try {
      process.kill(pid, "SIGTERM");
    } catch {
      // It ended with its parent.
    }
  }
  for (const one of kept) one?.[Symbol.dispose]();
  process.exit(1);
}

function descendants(pid: number): number[] {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const children = tasks.flatMap(
    (task) => readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").match(/\d+/g) ?? [],
  );
  return children.map(Number).flatMap((child) => [...descendants(child), child]);
}

function lineOf(row: Row, { figures, pairs, ours, theirs: others }: Measured): string {
  const isMet = row.isMet(figures, ours, others);
  const theirs = figures.theirs === null ? "" : `${figure(figures.theirs)} (${row.theirs})`;
  return `| ${[
    row.name,
    row.what,
    `${figure(figures.ours)} ${row.unit}`,
    theirs,
    figures.theirs === null ? "" : figures.ratio.toFixed(2),
    figures.spread.map((ratio) => ratio.toFixed(2)).join("–"),
    String(pairs),
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
