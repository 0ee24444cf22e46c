import type { Dice } from "../support/dice.ts";
import { type Call, LedgerBackend, orderly, type Reply } from "../support/ledger-backend.ts";

/** The headers that a disconnect carries as its connect did. */
const KEPT_HEADERS = ["x-asrs-hub", "x-asrs-client-query", "x-asrs-user-claims", "x-forwarded-for"] as const;

/** A backend that accepts most, refuses some, and checks what every disconnect says against its connect. */
export class Witness {
  readonly backend: LedgerBackend;
  /** Sentences about disconnects that are not as they must be. */
  readonly faults: string[];
  /** Connections that a crash of the gateway ended, by what their disconnect says. */
  readonly restarted: Set<string>;

  private constructor(backend: LedgerBackend, faults: string[], restarted: Set<string>) {
    this.backend = backend;
    this.faults = faults;
    this.restarted = restarted;
  }

  static async start(dice: Dice): Promise<Witness> {
    const connects = new Map<string, Call>();
    const eventIds = new Map<string, string>();
    const faults: string[] = [];
    const restarted = new Set<string>();
    const respond = async (call: Call): Promise<Reply> => {
      await Bun.sleep(dice.below(10));
      if (call.event === "message") return orderly(200, ["Content-Type: text/plain"], call.body);
      if (call.event === "connect") {
        connects.set(call.connectionId, call);
        const fate = dice.below(20);
        if (fate === 0) return orderly(403);
        if (fate === 1) return orderly(500);
        return orderly(200, [`X-ASRS-User-Id: user-${call.connectionId}`]);
      }
      const connect = connects.get(call.connectionId);
      faults.push(...compare(call, connect, backend.ledger.accounts.get(call.connectionId)?.accepted === true));
      if (call.header("x-hubwire-close-reason") === "gateway restarted") restarted.add(call.connectionId);
      const eventId = call.header("x-hubwire-event-id");
      const known = eventIds.get(call.connectionId) ?? eventId;
      if (known !== eventId) faults.push(`${call.connectionId}: event ids ${known} and ${eventId}`);
      eventIds.set(call.connectionId, eventId);
      return orderly(204);
    };
    const backend = await LedgerBackend.start({ respond });
    return new Witness(backend, faults, restarted);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.backend.stop();
  }
}

function compare(disconnect: Call, connect: Call | undefined, accepted: boolean): string[] {
  const id = disconnect.connectionId;
  const isUnknown = disconnect.header("x-hubwire-connect-outcome") === "unknown";
  if (connect === undefined) {
    // Written down and killed before it was posted: the gateway cannot know, and says so.
    return isUnknown ? [] : [`${id}: a disconnect of a connection that never asked`];
  }
  const faults = KEPT_HEADERS.filter((name) => disconnect.header(name) !== connect.header(name)).map(
    (name) => `${id}: ${name} was ${connect.header(name)} and is ${disconnect.header(name)}`,
  );
  if (!accepted && !isUnknown) faults.push(`${id}: was refused, and its disconnect does not say that this is unknown`);
  if (!isUnknown && disconnect.header("x-asrs-user-id") !== `user-${id}`) faults.push(`${id}: its user is gone`);
  const reason = disconnect.header("x-hubwire-close-reason");
  const code = disconnect.header("x-hubwire-close-code");
  if (reason === "gateway restarted" && code !== "1006") faults.push(`${id}: ${reason} with ${code}`);
  return faults;
}
