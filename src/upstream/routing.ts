import type { Dialect } from "../protocol/dialect.ts";
import { categoryOf, EVENT_NAMES, type EventName } from "../protocol/events.ts";
import { hubKey } from "../protocol/names.ts";

/** One pattern of an entry: everything, or these names. */
export type Pattern = "*" | readonly string[];

/** The three patterns that choose an entry. */
export interface EventPatterns {
  readonly hubPattern: Pattern;
  readonly categoryPattern: Pattern;
  readonly eventPattern: Pattern;
}

/** Patterns whose hub names are in the form that hubs are compared in, and whose events are those of the entry's dialect. */
export function normalisePatterns(patterns: EventPatterns, events: Dialect["events"]): EventPatterns {
  const { hubPattern, categoryPattern, eventPattern } = patterns;
  const known = EVENT_NAMES.filter((name) => events[name] && matches(eventPattern, name));
  return {
    hubPattern: hubPattern === "*" ? "*" : hubPattern.map(hubKey),
    categoryPattern,
    eventPattern: known.length === EVENT_NAMES.length ? "*" : known,
  };
}

/**
 * Whether an entry takes an event.
 *
 * Shape:  `patterns` come from `normalisePatterns`: hub names are compared without case.
 * Source: PROTOCOL.md, "Choosing the upstream". The connect event's name is `connect`, however a dialect writes it.
 */
export function matchesEvent(patterns: EventPatterns, hub: string, event: EventName): boolean {
  return (
    matches(patterns.eventPattern, event) &&
    matches(patterns.categoryPattern, categoryOf(event)) &&
    (patterns.hubPattern === "*" || patterns.hubPattern.includes(hubKey(hub)))
  );
}

function matches(pattern: Pattern, name: string): boolean {
  return pattern === "*" || pattern.includes(name);
}
