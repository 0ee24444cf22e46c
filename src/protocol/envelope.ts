import type { Payload } from "./payload.ts";

/** A user, a group or a connection. Never crosses its hub. */
export interface Members {
  readonly kind: "user" | "group" | "connection";
  readonly hub: string;
  readonly name: string;
}

/** Whom an envelope is for: everybody in a hub, or some. */
export type Target = { readonly kind: "hub"; readonly hub: string } | Members;

/** What the backend wants done, as it travels between nodes. Nobody waits for its effect. */
export type Envelope =
  | {
      readonly verb: "send";
      readonly target: Target;
      /** Connection ids that do not get it. */
      readonly excluded: readonly string[];
      readonly payload: Payload;
    }
  | { readonly verb: "close"; readonly target: Members; readonly reason: string };

/**
 * What a node is asked. A question may change membership; its answer then comes after the change.
 *
 * `afterRules`: the revision of the group rules that must hold there before it is answered; 0 where none must.
 */
export type Question =
  /** Is there a live connection of the target here? */
  | { readonly verb: "exists"; readonly target: Members }
  /** Is there a live member of the group among the target's connections here? */
  | { readonly verb: "inGroup"; readonly target: Members; readonly group: string }
  /** Adds the target's connections here to a group; yes if there was one. */
  | { readonly verb: "join"; readonly target: Members; readonly group: string; readonly afterRules: number }
  /** Takes the target's connections here out of a group, or of all where it is null; yes if there was one. */
  | { readonly verb: "leave"; readonly target: Members; readonly group: string | null; readonly afterRules: number };
