import { categoryOf, type EventName } from "../protocol/events.ts";
import { hubKey } from "../protocol/names.ts";
import { droppingOf } from "./dropped-options.ts";
import { type Fault, formatPath, type Path, valueAt } from "./faults.ts";
import { hubConfig, type LoadedConfig, type Written } from "./load.ts";
import { hasTwin, listOptions, type Option, optionName } from "./options.ts";
import type { UpstreamEntry } from "./schema.ts";
import { isTree } from "./tree.ts";

/** Two configurations: the one in force, and the one that is to follow. */
interface Change {
  readonly before: LoadedConfig;
  readonly after: LoadedConfig;
}

type Pattern = "*" | readonly string[];

const EVENTS: readonly EventName[] = ["connect", "message", "disconnect"];

const CUT_END =
  "is the last thing in the file and may be cut: end the file with a line break (after a text of several lines, with a comment)";

const OPTIONS: readonly Option[] = listOptions();
const HUB_OPTIONS = optionsBelow("hubs", "{name}");
const ENTRY_OPTIONS = optionsBelow("upstreams", "[]");
const KINDS: ReadonlyMap<string, Option["kind"]> = new Map(OPTIONS.map((option) => [optionName(option), option.kind]));

/**
 * Finds what a new configuration would open because it leaves out what the one before gave: a protection whose default is
 * less, an entry of `upstreams` whose events no other entry takes, the spelling of a hub. A value that is written out opens nothing here: that is on purpose.
 *
 * Shape:  one fault for each key path, in the words of the log. It holds no value.
 * Source: docs/decisions/0023-reloads-that-drop-protections.md.
 */
export function findOpenings(before: LoadedConfig, after: LoadedConfig): Fault[] {
  const change: Change = { before, after };
  return [
    ...findDroppedOptions(change),
    ...findDroppedHubs(change),
    ...findLostSpellings(change),
    ...findShortKeys(change),
    ...findLostEntries(change),
  ];
}

/**
 * Finds the last value of the file, if the file may have been cut within it and the value is not the one in force.
 *
 * A half of a value is often a value: of `https://app.example.com`, of 10.0.0.0/24, of a key. Only the end of its line says that
 * it is whole.
 */
export function findCutEnd({ written: before }: LoadedConfig, { written: after }: LoadedConfig): Fault[] {
  const path = after.openEnd;
  if (path === null || valueAt(after.tree, path) === valueAt(before.tree, path)) return [];
  const kind = KINDS.get(optionName({ path: path.map((key, position) => markerOf(path, key, position)) }));
  // No choice is the beginning of another one.
  if (kind === "choice" || kind === "boolean") return [];
  return [faultAt(after, path, CUT_END)];
}

function markerOf(path: Path, key: string | number, position: number): string {
  if (typeof key === "number") return "[]";
  return position === 1 && path[0] === "hubs" ? "{name}" : key;
}

function optionsBelow(list: string, marker: string): readonly (readonly [Path, Option])[] {
  return OPTIONS.filter(({ path }) => path[0] === list && path[1] === marker).map((option) => [
    option.path.slice(2),
    option,
  ]);
}

function faultAt({ isTemplates }: Written, path: Path, message: string): Fault {
  const named = isTemplates && path[0] === "upstreams" ? ["templates", ...path.slice(1)] : path;
  return { path: formatPath(named), message, where: null };
}

/** The paths of one option before and after. The paths differ for hubs in another case and for entries that have moved. */
interface Places {
  readonly option: Option;
  readonly writtenBefore: unknown;
  readonly writtenAfter: unknown;
  readonly valueBefore: unknown;
  readonly valueAfter: unknown;
}

/** What dropping an option opens, as the end of a sentence; null where it opens nothing or is not dropped. */
function openingOf({ option, writtenBefore, writtenAfter, valueBefore, valueAfter }: Places): string | null {
  const dropping = droppingOf(option);
  if (dropping.kind !== "opens" || !isDropped(option, writtenBefore, writtenAfter)) return null;
  return dropping.opens(valueBefore, valueAfter) ? `is not given any more, which ${dropping.means}` : null;
}

/** A map is dropped in part, too: its keys are free. */
function isDropped({ kind }: Option, before: unknown, after: unknown): boolean {
  if (before === undefined) return false;
  if (after === undefined) return true;
  if (kind !== "map") return false;
  return isTree(before) && isTree(after) && Object.keys(before).some((key) => !Object.hasOwn(after, key));
}

function findDroppedOptions({ before, after }: Change): Fault[] {
  return OPTIONS.filter(hasTwin).flatMap((option) => {
    const message = openingOf({
      option,
      writtenBefore: valueAt(before.written.tree, option.path),
      writtenAfter: valueAt(after.written.tree, option.path),
      valueBefore: valueAt(before.config, option.path),
      valueAfter: valueAt(after.config, option.path),
    });
    return message === null ? [] : [faultAt(before.written, option.path, message)];
  });
}

function findDroppedHubs({ before, after }: Change): Fault[] {
  const writtenAfter = new Map(hubsOf(after).map(([name, hub]) => [hubKey(name), hub]));
  return hubsOf(before).flatMap(([name, hub]) =>
    HUB_OPTIONS.flatMap(([path, option]) => {
      const message = openingOf({
        option,
        writtenBefore: valueAt(hub, path),
        writtenAfter: valueAt(writtenAfter.get(hubKey(name)), path),
        valueBefore: valueAt(hubConfig(before.config, name), path),
        valueAfter: valueAt(hubConfig(after.config, name), path),
      });
      return message === null ? [] : [faultAt(before.written, ["hubs", name, ...path], message)];
    }),
  );
}

function hubsOf({ written }: LoadedConfig): [string, unknown][] {
  const hubs = written.tree["hubs"];
  return isTree(hubs) ? Object.entries(hubs) : [];
}

/**
 * Hubs whose name backends would get in lower case, since no place writes it any more: a backend that guards `Admin` may not
 * know `admin`.
 */
function findLostSpellings({ before, after }: Change): Fault[] {
  const places = new Map<string, Path>();
  for (const [position, { hub }] of before.config.paths.entries()) places.set(hub, ["paths", position, "hub"]);
  for (const [position, { hubPattern }] of before.config.upstreams.entries()) {
    for (const name of hubPattern === "*" ? [] : hubPattern) places.set(name, ["upstreams", position, "hubPattern"]);
  }
  for (const [name] of hubsOf(before)) places.set(name, ["hubs", name]);
  return Object.entries(before.config.hubSpellings)
    .filter(([key, name]) => name !== key && !Object.hasOwn(after.config.hubSpellings, key))
    .map(([, name]) => {
      const message = "does not name this hub any more, whose name then reaches backends in lower case";
      return faultAt(before.written, places.get(name) ?? ["hubs", name], message);
    });
}

/** A key over several lines that has lost some of them: a beginning of the key in force is never meant as a new key. */
function findShortKeys({ before, after }: Change): Fault[] {
  return (["primary", "secondary"] as const).flatMap((name) => {
    const [old, next] = [before.config.accessKeys[name], after.config.accessKeys[name]];
    const isShort = old !== null && next !== null && next.length < old.length && old.startsWith(next);
    const message = "is the beginning of the key in force, which is easier to guess";
    return isShort ? [faultAt(after.written, ["accessKeys", name], message)] : [];
  });
}

/** Dropped options of entries that are still there, and entries that are missing. `upstreams` as a whole is an option. */
function findLostEntries({ before, after }: Change): Fault[] {
  const [old, next] = [before.config.upstreams, after.config.upstreams];
  if (next.length === 0) return [];
  const inEntries = pairEntries(old, next).flatMap(([oldPosition, position]) =>
    ENTRY_OPTIONS.flatMap(([path, option]) => {
      const message = openingOf({
        option,
        writtenBefore: valueAt(before.written.tree, ["upstreams", oldPosition, ...path]),
        writtenAfter: valueAt(after.written.tree, ["upstreams", position, ...path]),
        valueBefore: valueAt(old[oldPosition], path),
        valueAfter: valueAt(next[position], path),
      });
      return message === null ? [] : [faultAt(after.written, ["upstreams", position, ...path], message)];
    }),
  );
  const lost = [...findLostEvents(old, next)].map(([position, events]) => {
    const message = `was removed, and no other entry takes its events: ${events.join(", ")}`;
    return faultAt(before.written, ["upstreams", position], message);
  });
  return [...inEntries, ...lost];
}

/** The fields that tell an entry from others, from the most exact on. Entries often have one URL and differ in what they take. */
const ENTRY_MARKS: readonly ((entry: UpstreamEntry) => string)[] = [
  ({ urlTemplate, hubPattern, categoryPattern, eventPattern }) =>
    JSON.stringify([urlTemplate, hubPattern, categoryPattern, eventPattern]),
  ({ urlTemplate }) => urlTemplate,
];

/**
 * Which entry of the new list is which of the old one: the one with the same URL and patterns, else with the same URL, at the same
 * position if there are several; what is left over, by position.
 */
function pairEntries(before: readonly UpstreamEntry[], after: readonly UpstreamEntry[]): [number, number][] {
  const unpaired = new Set(before.keys());
  const pairs = new Map<number, number>();
  const pair = (old: number | undefined, position: number) => {
    if (old === undefined || pairs.has(position) || !unpaired.delete(old)) return;
    pairs.set(position, old);
  };
  for (const markOf of ENTRY_MARKS) {
    const [old, next] = [before.map(markOf), after.map(markOf)];
    for (const [position, mark] of next.entries()) if (old[position] === mark) pair(position, position);
    const byMark = Map.groupBy(unpaired, (position) => old[position]);
    for (const [position, mark] of next.entries()) {
      if (!pairs.has(position)) pair(byMark.get(mark)?.shift(), position);
    }
  }
  for (const position of after.keys()) pair(position, position);
  return [...pairs].map(([position, old]) => [old, position]);
}

/** The events that an entry took and no entry takes any more, by the position of that entry. */
function findLostEvents(before: readonly UpstreamEntry[], after: readonly UpstreamEntry[]): Map<number, EventName[]> {
  const lost = new Map<number, EventName[]>();
  for (const event of EVENTS) {
    const [old, next] = [routesOf(before, event), routesOf(after, event)];
    const isLost = (hub: string | null) => next.rest === null && (hub === null || !next.hubs.has(hub));
    const takers = [...old.hubs].filter(([hub]) => isLost(hub)).map(([, position]) => position);
    if (old.rest !== null && isLost(null)) takers.push(old.rest);
    for (const position of new Set(takers)) lost.set(position, [...(lost.get(position) ?? []), event]);
  }
  return lost;
}

/** The first entry for each hub that is named, and the one for all others; null if no entry matches. */
function routesOf(
  entries: readonly UpstreamEntry[],
  event: EventName,
): { readonly hubs: ReadonlyMap<string, number>; readonly rest: number | null } {
  const hubs = new Map<string, number>();
  for (const [position, { hubPattern, categoryPattern, eventPattern }] of entries.entries()) {
    if (!matches(eventPattern, event) || !matches(categoryPattern, categoryOf(event))) continue;
    if (hubPattern === "*") return { hubs, rest: position };
    for (const hub of hubPattern.map(hubKey)) if (!hubs.has(hub)) hubs.set(hub, position);
  }
  return { hubs, rest: null };
}

function matches(pattern: Pattern, name: string): boolean {
  return pattern === "*" || pattern.includes(name);
}
