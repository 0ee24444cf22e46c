import { z } from "zod";

/** What the documentation says of one option, beyond what its schema shows. */
export interface OptionDoc {
  /** `ms`, `bytes`, `count`, …; empty where a value has no unit. */
  readonly unit: string;
  /** One or two sentences: what it does, what it costs, what 0 or null means. */
  readonly doc: string;
}

/** Every option's unit and sentence, filled by `schema.ts`, `upstream-schema.ts` and `cluster-schema.ts` as they declare the options. */
export const optionDocs = z.registry<OptionDoc>();

/**
 * A check for `superRefine` out of a function that names what is wrong.
 *
 * Shape:  `fault(value)` returns a sentence that never holds the value, since values may be secrets; null where all is well.
 */
export function refusing<Value>(fault: (value: Value) => string | null) {
  return (value: Value, context: z.RefinementCtx<Value>): void => {
    const message = fault(value);
    if (message !== null) context.addIssue({ code: "custom", message });
  };
}
