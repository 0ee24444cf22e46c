import type { Encoding } from "../protocol/client-protocol.ts";
import type { Target } from "../protocol/envelope.ts";
import { hubKey } from "../protocol/names.ts";

/**
 * The topic of the fan-out to which the members of a target subscribe whose frames have one encoding, the same for every spelling of its hub.
 *
 * Shape: encoding, kind, hub and name separated by NUL, which no name holds.
 */
export function topicOf(target: Target, encoding: Encoding): string {
  const key = `${encoding}\0${target.kind}\0${hubKey(target.hub)}`;
  return target.kind === "hub" ? key : `${key}\0${target.name}`;
}
