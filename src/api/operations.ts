import type { Broker, Verdict } from "../core/ports/broker.ts";
import type { RuleWrite } from "../core/rule-store.ts";
import type { Envelope, Members, Target } from "../protocol/envelope.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import type { Report } from "../protocol/notices.ts";
import type { Payload } from "../protocol/payload.ts";
import type { CallNames } from "./call.ts";
import type { Operation } from "./routes.ts";

/** The group rules, as far as the API uses them; `GroupRules` of the core. */
export interface Rules {
  put(hub: string, userId: string, group: string, ttlSeconds: number): Promise<RuleWrite | { kind: "full" }>;
  end(hub: string, userId: string, group: string | null): Promise<RuleWrite>;
  has(hub: string, userId: string, group: string): boolean;
}

/** A status, or why not. */
type Outcome = Refusal | number;

/**
 * What each operation of the REST API does, as envelopes and questions.
 *
 * Order:  a change of membership has taken effect, on every node, before its outcome.
 * Source: PROTOCOL.md, "REST API".
 */
export class Operations {
  readonly #broker: Broker;
  readonly #rules: Rules;
  readonly #report: Report;

  constructor(broker: Broker, rules: Rules, report: Report) {
    this.#broker = broker;
    this.#rules = rules;
    this.#report = report;
  }

  /** Fire and forget: an unknown user, group or connection is 202 too. */
  send(operation: Operation, names: CallNames, payload: Payload): Promise<Outcome> {
    return this.#publish({ verb: "send", target: targetOf(operation, names), excluded: names.excluded, payload });
  }

  async run(operation: Operation, names: CallNames): Promise<Outcome> {
    const { group, reason } = names;
    const connection = members("connection", names);
    switch (operation) {
      case "addConnectionToGroup":
        return membershipOutcome(await this.#changeConnection("join", connection, group));
      case "removeConnectionFromGroup":
        return membershipOutcome(await this.#changeConnection("leave", connection, group));
      case "addUserToGroup":
        return await this.#addUser(names);
      case "removeUserFromGroup":
        return await this.#removeUser(names, group, 202);
      case "removeUserFromAllGroups":
        return await this.#removeUser(names, null, 200);
      case "isUserInGroup":
        return await this.#isUserInGroup(names);
      case "closeConnection":
        return await this.#publish({ verb: "close", target: connection, reason });
      case "connectionExists":
        return await this.#exists(connection, noConnection);
      case "userExists":
        return await this.#exists(members("user", names), () =>
          notFound("no_such_user", "nobody of this name is connected", "user"),
        );
      case "groupExists":
        return await this.#exists(members("group", names), () =>
          notFound("no_such_group", "nobody is in this group", "group"),
        );
      default:
        throw new Error(`${operation} sends a message`);
    }
  }

  async #publish(envelope: Envelope): Promise<Outcome> {
    return (await this.#broker.publish(envelope)) === "sent" ? 202 : brokerUnavailable();
  }

  #changeConnection(verb: "join" | "leave", target: Members, group: string): Promise<Verdict | "unavailable"> {
    return this.#broker.ask({ verb, target, group, afterRules: 0 }, "first-yes");
  }

  async #exists(target: Members, otherwise: () => Refusal): Promise<Outcome> {
    return yesOr(otherwise, await this.#broker.ask({ verb: "exists", target }, "first-yes"));
  }

  async #isUserInGroup(names: CallNames): Promise<Outcome> {
    const { hub, user, group } = names;
    if (this.#rules.has(hub, user, group)) return 200;
    const asked = this.#broker.ask({ verb: "inGroup", target: members("user", names), group }, "first-yes");
    return yesOr(() => notFound("not_a_member", "the user is not in the group", "user"), await asked);
  }

  async #addUser(names: CallNames): Promise<Outcome> {
    const { hub, user, group, ttlSeconds } = names;
    const changed = await this.#changeRules(() =>
      ttlSeconds === null ? this.#rules.end(hub, user, group) : this.#rules.put(hub, user, group, ttlSeconds),
    );
    if ("status" in changed) return changed;
    // After the rule: a connection that opens in between has the group by the one or by the other.
    const asked = { verb: "join", target: members("user", names), group, afterRules: changed.revision } as const;
    const answer = await this.#broker.ask(asked, "every-node");
    if (answer === "unavailable") return brokerUnavailable();
    return answer === "limit" ? groupLimit() : 202;
  }

  async #removeUser(names: CallNames, group: string | null, done: number): Promise<Outcome> {
    const changed = await this.#changeRules(() => this.#rules.end(names.hub, names.user, group));
    if ("status" in changed) return changed;
    const asked = { verb: "leave", target: members("user", names), group, afterRules: changed.revision } as const;
    return (await this.#broker.ask(asked, "every-node")) === "unavailable" ? brokerUnavailable() : done;
  }

  async #changeRules(
    change: () => Promise<RuleWrite | { kind: "full" }>,
  ): Promise<Refusal | { readonly revision: number }> {
    try {
      const written = await change();
      if (written.kind === "full")
        return refusal(
          "rule_limit",
          "there are 100,000 group rules already: remove one, or wait until one ends",
          "ttl",
        );
      return written.kind === "unavailable" ? brokerUnavailable() : written;
    } catch (error) {
      this.#report({ kind: "fault", where: "group rules", error });
      return refusal("rules_unavailable", "the group rule could not be written; the log has the details", "dataDir");
    }
  }
}

function targetOf(operation: Operation, names: CallNames): Target {
  switch (operation) {
    case "sendToUser":
      return members("user", names);
    case "sendToGroup":
      return members("group", names);
    case "sendToConnection":
      return members("connection", names);
    default:
      return { kind: "hub", hub: names.hub };
  }
}

function members(kind: Members["kind"], names: CallNames): Members {
  return { kind, hub: names.hub, name: names[kind] };
}

function membershipOutcome(answer: Verdict | "unavailable"): Outcome {
  return answer === "limit" ? groupLimit() : yesOr(noConnection, answer);
}

function yesOr(otherwise: () => Refusal, answer: Verdict | "unavailable"): Outcome {
  if (answer === "unavailable") return brokerUnavailable();
  return answer === "yes" ? 200 : otherwise();
}

function brokerUnavailable(): Refusal {
  const sentence = "not every node of the cluster can be reached";
  return refusal("broker_unavailable", sentence, "cluster", { "Retry-After": "1" });
}

function groupLimit(): Refusal {
  return refusal("group_limit", "limits.maxGroupsPerConnection is reached", "maxGroupsPerConnection");
}

function noConnection(): Refusal {
  return notFound("no_such_connection", "there is no live connection of this id", "connection");
}

function notFound(
  code: "no_such_connection" | "no_such_user" | "no_such_group" | "not_a_member",
  sentence: string,
  target: string,
): Refusal {
  return refusal(code, sentence, target);
}
