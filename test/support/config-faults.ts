import { ConfigError } from "../../src/config/faults.ts";
import { parseConfig } from "../../src/config/load.ts";

/** The faults of a configuration in the shape of hubwire.yaml, each as `path: message`; none where it is good. */
export function faultsOf(raw: unknown): string[] {
  try {
    parseConfig(raw);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.faults.map(({ path, message }) => `${path}: ${message}`);
    throw error;
  }
}
