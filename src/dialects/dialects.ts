import type { Dialects } from "../protocol/dialect.ts";
import { asrs } from "./asrs/asrs.ts";

/** The dialects of this version. */
export const DIALECTS: Dialects = { asrs };
