import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { REPOSITORY } from "../test/support/command.ts";
import { cpuSeconds, startBenchGateway } from "./gateway.ts";
import { Load } from "./load.ts";
import { median } from "./median.ts";
import { startBackend } from "./nginx.ts";

/**
 * Where the CPU time of one message goes: `npm run bench:profile`.
 *
 * The gateway runs twice under the load of the row `echo`: once as it is, for what the process costs by the kernel's count, and
 * once with Bun's profiler, whose samples are shared out to the steps.
 */

const SECONDS = 6;
const WARMUP_SECONDS = 3;
const CONNECTIONS = 64;

/** Steps by hubwire's innermost function in a sample's stack; the first match counts. Native functions belong to their caller. */
const STEPS: readonly (readonly [step: string, name: RegExp | null, file: RegExp])[] = [
  ["reply written to the client: `sendText`", /^sendText$/, /bun-socket\.ts/],
  ["request written to the backend: `write`", /^write$/, /http-socket\.ts/],
  [
    "answer's head and body read",
    null,
    /response-parser|response-head|control-headers|header-bytes|answer\.ts|strict-text/,
  ],
  ["request formed", null, /request-bytes|asrs\.ts|message-starts|http-date/],
  ["call: place, breaker, deadline, token, socket", null, /\/upstream\//],
  ["core: rates, liveness, inbox, memory, outcome", null, /\/core\/|\/client-protocols\/|system-clock/],
  ["handlers of Bun's sockets", null, /\/sockets\//],
];

interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

interface Run {
  readonly messagesPerSecond: number;
  /** Microseconds of CPU for one message. */
  readonly cpuMicros: number;
  readonly totalMicros: number;
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "hubwire-profile-"));
  try {
    const plain = await measure({});
    const profiled = await measure({ BUN_OPTIONS: `--cpu-prof --cpu-prof-interval=200 --cpu-prof-dir=${folder}` });
    const [file = ""] = readdirSync(folder).filter((name) => name.endsWith(".cpuprofile"));
    const profile = JSON.parse(readFileSync(join(folder, file), "utf8")) as Profile;
    print(plain, profiled, shares(profile, SECONDS * 1e6, profiled.totalMicros));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measure(env: Readonly<Record<string, string>>): Promise<Run> {
  using load = new Load();
  await using backend = await startBackend();
  await using gateway = await startBenchGateway({ repository: REPOSITORY }, backend, {}, env);
  const flags = { conns: CONNECTIONS, bytes: 64, port: gateway.port, path: "/ws/client" };
  await load.run("echo", { ...flags, seconds: WARMUP_SECONDS, warmup: 0 });
  const before = cpuSeconds(gateway.pid);
  const { rate } = await load.run("echo", { ...flags, seconds: SECONDS, warmup: 0 });
  const totalMicros = (cpuSeconds(gateway.pid) - before) * 1e6;
  return { messagesPerSecond: rate, cpuMicros: totalMicros / (rate * SECONDS), totalMicros };
}

/**
 * What part of the CPU time of the last so many microseconds was spent in each step. Samples are taken in JavaScript only: each
 * counts for the usual time between two, and the rest of the time was spent elsewhere.
 */
function shares(profile: Profile, lastMicros: number, cpuMicros: number): Map<string, number> {
  const stepOf = stepsOf(profile);
  const sampleMicros = median(profile.timeDeltas);
  const spent = new Map<string, number>();
  let micros = 0;
  for (let i = profile.samples.length - 1; i >= 0 && micros < lastMicros; i--) {
    micros += profile.timeDeltas[i] ?? 0;
    const step = stepOf.get(profile.samples[i] ?? 0);
    if (step !== undefined) spent.set(step, (spent.get(step) ?? 0) + sampleMicros);
  }
  return new Map([...spent].map(([step, part]) => [step, part / cpuMicros]));
}

function stepsOf({ nodes }: Profile): Map<number, string> {
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const steps = new Map<number, string>();
  for (const { id, callFrame } of nodes) {
    let owner = byId.get(id);
    while (owner !== undefined && !owner.callFrame.url.includes("/src/")) owner = byId.get(parents.get(owner.id) ?? -1);
    const url = owner?.callFrame.url ?? "";
    const found = STEPS.find(
      ([, name, file]) => file.test(url) && (name === null || name.test(callFrame.functionName)),
    );
    if (found !== undefined) steps.set(id, found[0]);
  }
  return steps;
}

function print(plain: Run, profiled: Run, parts: ReadonlyMap<string, number>): void {
  const micros = (value: number) => value.toFixed(2);
  console.log(`${Math.round(plain.messagesPerSecond)} messages/s, ${micros(plain.cpuMicros)} µs of CPU for one`);
  console.log(`with the profiler: ${Math.round(profiled.messagesPerSecond)}/s, ${micros(profiled.cpuMicros)} µs\n`);
  console.log("| step | share | µs |\n| --- | ---: | ---: |");
  let known = 0;
  for (const [step] of STEPS) {
    const part = parts.get(step) ?? 0;
    known += part;
    console.log(`| ${step} | ${(part * 100).toFixed(1)} % | ${micros(part * plain.cpuMicros)} |`);
  }
  const rest = 1 - known;
  console.log(
    `| event loop, reading sockets, WebSocket frames, garbage collection | ${(rest * 100).toFixed(1)} % | ${micros(rest * plain.cpuMicros)} |`,
  );
}

await main();
process.exit(0);
