import { appendFileSync } from "node:fs";

/** The variable that chooses the long form. `npm run test:reliability` sets it, `npm test` does not. */
const FORM = process.env["HUBWIRE_RELIABILITY"];

/** Where the runner collects the figures of all files, to print them as one table. */
const FIGURES_FILE = process.env["HUBWIRE_RELIABILITY_FIGURES"];

/** Whether this is the long form, which holds times and ratios too. The short one counts only. */
export const IS_LONG = FORM === "long";

/** The value for the form that runs. */
export function inForm<T>(values: { readonly short: T; readonly long: T }): T {
  return IS_LONG ? values.long : values.short;
}

/** Adds a measured figure to the run's list, with the bound that it must hold. Long form only: short times mean nothing. */
export function recordFigure(what: string, measured: string, held: string): void {
  if (!IS_LONG) return;
  const entry = `- ${what}: ${measured}${held === "" ? "" : `; bound: ${held}`}`;
  if (FIGURES_FILE === undefined) console.log(entry);
  else appendFileSync(FIGURES_FILE, `${entry}\n`);
}

/** Bytes as whole MB. */
export function formatMegabytes(byteCount: number): string {
  return `${(byteCount / 1e6).toFixed(0)} MB`;
}
