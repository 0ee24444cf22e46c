import { z } from "zod";
import { HUB_RULE, isHubName } from "../protocol/names.ts";
import { refusing } from "./option-docs.ts";

/** What one field of an upstream entry matches: everything, or any of the names. Hub names compare without case. */
export type Pattern = "*" | string[];

/**
 * Reads a pattern as the file writes it: `*`, one name, a comma list or a YAML list.
 *
 * Shape:  `"a, b"` is `["a", "b"]`; a list's items are names as they are written, since a hub's name may hold a comma. `*` among
 *         other names matches everything, as it does alone.
 */
export function parsePattern(written: string | readonly string[]): Pattern {
  const names = typeof written === "string" ? written.split(",").map((name) => name.trim()) : [...written];
  return names.includes("*") ? "*" : names;
}

/** Reads a pattern that may have any type, before the schema has judged it: left out, it matches everything; a wrong type matches nothing. */
export function readPattern(written: unknown): Pattern {
  if (written === undefined) return "*";
  const isList = Array.isArray(written) && written.every((item) => typeof item === "string");
  return typeof written === "string" || isList ? parsePattern(written as string | string[]) : [];
}

/** The schema of `eventPattern` and `categoryPattern`: only these names can ever match. */
export function choicePatternSchema(choices: readonly string[]) {
  const list = choices.join(", ");
  return patternSchema((name) => choices.includes(name), `each name must be one of ${list}; or "*" for all`);
}

/** The schema of `hubPattern`. */
export function hubPatternSchema() {
  return patternSchema(
    isHubName,
    'each name must be "_default" or a letter followed by at most 127 of A-Z a-z 0-9 _ . , [ ]; or "*" for all hubs ("*" cannot match a part of a name)',
  );
}

/** What is wrong with the name of one hub; null where it is one. */
export function hubNameFault(name: string): string | null {
  return isHubName(name) ? null : `is not a valid hub name: use ${HUB_RULE}`;
}

function patternSchema(isKnownName: (name: string) => boolean, refusal: string) {
  return z
    .union([z.string(), z.array(z.string())], { error: "must be text or a list of texts" })
    .superRefine(
      refusing((written) => {
        if (written.length === 0) return 'is empty and would match nothing; write "*" to match everything';
        const pattern = parsePattern(written);
        return pattern === "*" || pattern.every(isKnownName) ? null : refusal;
      }),
    )
    .transform(parsePattern);
}
