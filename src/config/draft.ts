import { hubKey } from "../protocol/names.ts";
import { findCrossCheckFaults } from "./cross-checks.ts";
import { describeIssue, type TreeFault } from "./faults.ts";
import { findHubSpellings } from "./hub-spellings.ts";
import { takeLaterOptions } from "./later.ts";
import { type Config, configSchema, type HubConfig } from "./schema.ts";
import { copyTree, isTree, type Tree } from "./tree.ts";

/** The written options, on their way to a configuration. */
export interface Draft {
  readonly tree: Tree;
  readonly faults: readonly TreeFault[];
  /** Whether `upstreams` was written as `templates`, the name that the hosted service used. */
  readonly isTemplates: boolean;
}

/** Copies what was written, and gives `templates` the name that the schema knows. Source: docs/configuration.md. */
export function startDraft(raw: unknown): Draft {
  const faults: TreeFault[] = [];
  const copy = copyTree(raw, faults);
  if (!isTree(copy))
    return { tree: {}, faults: [{ path: [], message: "must be a block of keys" }], isTemplates: false };
  if (!Object.hasOwn(copy, "templates")) return { tree: copy, faults, isTemplates: false };
  const { templates, ...tree } = copy;
  if (!Object.hasOwn(tree, "upstreams")) return { tree: { ...tree, upstreams: templates }, faults, isTemplates: true };
  faults.push({ path: ["templates"], message: "is another name for upstreams: give only one of them" });
  return { tree, faults, isTemplates: false };
}

/**
 * Checks a draft against the schema and every rule, and makes it a configuration that nobody can change.
 *
 * Errors: returns all faults at once, those of the draft included. Options of a later version are taken out of the tree.
 */
export function finishDraft(draft: Draft): { readonly config: Config } | { readonly faults: readonly TreeFault[] } {
  const faults = [...draft.faults, ...takeLaterOptions(draft.tree), ...findCrossCheckFaults(draft.tree)];
  const result = configSchema.safeParse(draft.tree);
  if (!result.success) {
    return { faults: [...faults, ...result.error.issues.flatMap((issue) => describeIssue(issue, draft.tree))] };
  }
  if (faults.length > 0) return { faults };
  const { anonymous, allowedOrigins, websocket } = result.data;
  // Without a prototype, so that a client's hub named `constructor` finds nothing.
  const hubs: Record<string, HubConfig> = Object.create(null) as Record<string, HubConfig>;
  for (const [name, hub] of Object.entries(result.data.hubs)) {
    hubs[hubKey(name)] = {
      anonymous: hub.anonymous ?? anonymous,
      allowedOrigins: hub.allowedOrigins ?? allowedOrigins,
      compression: hub.compression ?? websocket.compression,
    };
  }
  const hubSpellings = findHubSpellings(Object.keys(result.data.hubs), result.data.upstreams, result.data.paths);
  return { config: deepFreeze({ ...result.data, hubs, hubSpellings }) };
}

function deepFreeze<Value>(value: Value): Value {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
