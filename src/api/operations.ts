import type { Answer, Broker, Frame, Report } from "../core/ports.ts";
import type { Members, Target } from "../protocol/envelope.ts";
import { type Refusal, refusal } from "../protocol/error-codes.ts";
import type { CallNames } from "./call.ts";
import type { Operation } from "./routes.ts";

/** The group rules, as far as the API uses them; `GroupRules` of the core. */
export interface Rules {
  put(hub: string, userId: string, group: string, ttlSeconds: number): "kept" | "full";
  end(hub: string, userId: string, group: string | null): void;
  has(hub: string, userId: string, group: string): boolean;
}

/** A status, or why not. */
type Outcome = Refusal | number;

/**
 * What each operation of the REST API does, as envelopes and questions.
 *
 * Order:  a change of membership has taken effect, on every node, before its outcome.
 * Source: spec section 6, its table and "Semantics".
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
  async send(operation: Operation, names: CallNames, frame: Frame): Promise<Outcome> {
    await this.#broker.publish({ verb: "send", target: targetOf(operation, names), excluded: names.excluded, frame });
    return 202;
  }

  async run(operation: Operation, names: CallNames): Promise<Outcome> {
    const { group, reason } = names;
    const connection = members("connection", names);
    switch (operation) {
      case "addConnectionToGroup":
        return membershipOutcome(await this.#broker.ask({ verb: "join", target: connection, group }, "first-yes"));
      case "removeConnectionFromGroup":
        return membershipOutcome(await this.#broker.ask({ verb: "leave", target: connection, group }, "first-yes"));
      case "addUserToGroup":
        return await this.#addUser(names);
      case "removeUserFromGroup":
        return await this.#removeUser(names, group, 202);
      case "removeUserFromAllGroups":
        return await this.#removeUser(names, null, 200);
      case "isUserInGroup":
        return (await this.#isUserInGroup(names))
          ? 200
          : notFound("not_a_member", "the user is not in the group", "user");
      case "closeConnection":
        await this.#broker.publish({ verb: "close", target: connection, reason });
        return 202;
      case "connectionExists":
        return (await this.#exists(connection)) ? 200 : noConnection();
      case "userExists":
        return (await this.#exists(members("user", names)))
          ? 200
          : notFound("no_such_user", "nobody of this name is connected", "user");
      case "groupExists":
        return (await this.#exists(members("group", names)))
          ? 200
          : notFound("no_such_group", "nobody is in this group", "group");
      default:
        throw new Error(`${operation} sends a message`);
    }
  }

  async #exists(target: Members): Promise<boolean> {
    return (await this.#broker.ask({ verb: "exists", target }, "first-yes")) === "yes";
  }

  async #isUserInGroup(names: CallNames): Promise<boolean> {
    const { hub, user, group } = names;
    if (this.#rules.has(hub, user, group)) return true;
    return (await this.#broker.ask({ verb: "inGroup", target: members("user", names), group }, "first-yes")) === "yes";
  }

  async #addUser(names: CallNames): Promise<Outcome> {
    const { hub, user, group, ttlSeconds } = names;
    const refused = this.#changeRules(() => {
      if (ttlSeconds !== null) return this.#rules.put(hub, user, group, ttlSeconds);
      this.#rules.end(hub, user, group);
      return "kept";
    });
    if (refused !== null) return refused;
    // After the rule: a connection that opens in between has the group by the one or by the other.
    const answer = await this.#broker.ask({ verb: "join", target: members("user", names), group }, "every-node");
    return answer === "limit" ? groupLimit() : 202;
  }

  async #removeUser(names: CallNames, group: string | null, done: number): Promise<Outcome> {
    const refused = this.#changeRules(() => {
      this.#rules.end(names.hub, names.user, group);
      return "kept";
    });
    if (refused !== null) return refused;
    await this.#broker.ask({ verb: "leave", target: members("user", names), group }, "every-node");
    return done;
  }

  #changeRules(change: () => "kept" | "full"): Refusal | null {
    try {
      if (change() === "kept") return null;
      return refusal("rule_limit", "there are 100,000 group rules already", "ttl");
    } catch (error) {
      this.#report.fault("group rules", error);
      return refusal("rules_unavailable", "the group rule could not be written", "dataDir");
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

function membershipOutcome(answer: Answer): Outcome {
  if (answer === "limit") return groupLimit();
  return answer === "yes" ? 200 : noConnection();
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
