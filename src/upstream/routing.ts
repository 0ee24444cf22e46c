import { categoryOf, type EventName } from "../protocol/events.ts";
import { hubKey } from "../protocol/names.ts";

/** One pattern of an entry: everything, or these names. */
export type Pattern = "*" | readonly string[];

/** The three patterns that choose an entry. */
export interface EventPatterns {
  readonly hubPattern: Pattern;
  readonly categoryPattern: Pattern;
  readonly eventPattern: Pattern;
}

/** Patterns whose hub names are in the form that hubs are compared in. */
export function normalisePatterns(patterns: EventPatterns): EventPatterns {
  const { hubPattern, categoryPattern, eventPattern } = patterns;
  return { hubPattern: hubPattern === "*" ? "*" : hubPattern.map(hubKey), categoryPattern, eventPattern };
}

/**
 * Whether an entry takes an event.
 *
 * Shape:  `patterns` come from `normalisePatterns`: hub names compare case-insensitively.
 * Source: PROTOCOL.md, "Choosing the upstream"; the connect event's name is `connect`, whatever `X-ASRS-Event` says of it.
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
