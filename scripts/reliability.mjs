// npm run test:reliability: the tests of test/reliability and test/cluster in their long form, which hold times and ratios too. Prints
// their figures as a list for docs/reliability.md, then the last line of `npm test`: `N passed, N failed`.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = mkdtempSync(join(tmpdir(), "hubwire-figures-"));
const figuresFile = join(folder, "figures.txt");
writeFileSync(figuresFile, "");

const paths = process.argv.length > 2 ? process.argv.slice(2) : ["test/reliability", "test/cluster"];
const child = spawn(process.execPath, [join(ROOT, "scripts", "test.mjs"), ...paths], {
  stdio: ["inherit", "pipe", "inherit"],
  env: { ...process.env, HUBWIRE_RELIABILITY: "long", HUBWIRE_RELIABILITY_FIGURES: figuresFile },
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));

// The counts are the last line and must stay so: it is held back until the figures are above it.
let held = "";
child.stdout.on("data", (bytes) => {
  held += bytes.toString("utf8");
  const end = held.trimEnd().lastIndexOf("\n") + 1;
  process.stdout.write(held.slice(0, end));
  held = held.slice(end);
});
child.on("close", (code) => {
  const figures = readFileSync(figuresFile, "utf8");
  rmSync(folder, { recursive: true, force: true });
  if (figures !== "") console.log(`\n${figures}`);
  process.stdout.write(held);
  process.exit(code ?? 1);
});
