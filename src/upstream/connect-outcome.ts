import type { ConnectOutcome, LateAnswer } from "../core/ports/upstream.ts";
import type { ConnectAsked, ConnectReply, Dialect } from "../protocol/dialect.ts";
import type { HeaderLines } from "../protocol/headers.ts";
import { passedHeaders } from "../protocol/relayed-answer.ts";
import type { CallOutcome } from "./call.ts";
import type { LateHead } from "./late-answers.ts";

/** Reads what a connect event's call brought, in the connection's dialect. `passedNames` are those of its entry. */
export function readConnectOutcome(
  outcome: CallOutcome,
  dialect: Dialect,
  asked: ConnectAsked,
  passedNames: readonly string[] = [],
): ConnectOutcome {
  const readHead = (status: number | null, headers: HeaderLines): ConnectReply | null =>
    isAccepted(status) ? dialect.readConnect({ headers, content: null }, asked) : null;
  switch (outcome.kind) {
    case "answer": {
      const { kind, status, headers, body, wasRepeated } = outcome;
      const reply = isAccepted(status) ? dialect.readConnect({ headers, content: outcome }, asked) : null;
      const answer = { kind, status, headers, body, reply, ...(wasRepeated === true && { wasRepeated }) };
      if (reply === null || passedNames.length === 0) return answer;
      return { ...answer, passed: passedHeaders(headers, passedNames) };
    }
    case "unknown": {
      const { late, ...rest } = outcome;
      const reply = readHead(rest.status, rest.headers ?? []);
      return late === undefined ? { ...rest, reply } : { ...rest, reply, late: late.then(readLate) };
    }
    default:
      return outcome;
  }

  function readLate(late: LateHead): LateAnswer {
    if (late.kind !== "answer") return late;
    const reply = readHead(late.status, late.headers);
    return reply === null ? { kind: "none" } : { kind: "accepted", reply };
  }
}

function isAccepted(status: number | null): boolean {
  return status !== null && status >= 200 && status < 300;
}
