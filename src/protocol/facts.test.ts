import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  type ConnectionFacts,
  copyFacts,
  formatFacts,
  fromEarlierRow,
  fromFactsRow,
  parseFacts,
  toFactsRow,
  toFirstFormRow,
} from "./facts.ts";

/** Every fact of a connection. The type makes this list complete: a new fact that is common must be here. */
const ALL: Required<ConnectionFacts> = {
  connectionId: "c1",
  hub: "chat",
  userId: "ann",
  claims: "sub: ann",
  clientQuery: "a=b",
  forwardedFor: "10.0.0.1",
  rare: { userIdCoding: "latin1", dialect: "asrs", news: [1, { é: null }] },
};

const TEXT = fc.string({ unit: "binary" });
const FACTS = fc.record({
  connectionId: TEXT,
  hub: TEXT,
  userId: TEXT,
  claims: TEXT,
  clientQuery: TEXT,
  forwardedFor: TEXT,
});

describe("a connection's facts", () => {
  test("are all stored, sent to other nodes, and copied", () => {
    expect(fromFactsRow(toFactsRow(ALL))).toEqual(ALL);
    expect(copyFacts(ALL)).toEqual(ALL);
    const { connectionId, hub, userId, ...others } = ALL;
    expect(parseFacts(formatFacts(ALL))).toEqual(others);
    expect(toFactsRow(ALL).slice(0, 3)).toEqual([connectionId, hub, userId]);
  });

  test("come back as they were, with whatever text and whatever a newer version adds", () => {
    fc.assert(
      fc.property(FACTS, fc.dictionary(TEXT, fc.jsonValue()), (facts, added) => {
        const { claims, clientQuery, forwardedFor, ...rare } = added;
        const all = Object.keys(rare).length === 0 ? facts : ({ ...facts, rare } as ConnectionFacts);
        // As JSON has it: -0 is 0 there.
        expect(fromFactsRow(toFactsRow(all))).toEqual(JSON.parse(JSON.stringify(all)));
      }),
    );
  });

  test("of a connection without rare ones have no such field", () => {
    const { rare: _rare, ...common } = ALL;
    expect(copyFacts(common)).not.toHaveProperty("rare");
    expect(fromFactsRow(toFactsRow(common))).toEqual(common);
  });

  test.each(["", "{", "5", "null", '"x"', "[1]", '{"claims":5,"clientQuery":null}'])(
    "that are damaged (%j) have no value, and nothing is thrown",
    (text) => {
      expect(parseFacts(text)).toEqual({ claims: "", clientQuery: "", forwardedFor: "" });
    },
  );

  test("are read from the rows of earlier forms", () => {
    const { rare, ...common } = ALL;
    const row = ["c1", "chat", "ann", "sub: ann", "a=b", "10.0.0.1"];
    expect(toFirstFormRow(ALL)).toEqual(row);
    expect(fromEarlierRow(row)).toEqual(common);
    expect(fromEarlierRow([...row, ""])).toEqual(common);
    expect(fromEarlierRow([...row, JSON.stringify(rare)])).toEqual(ALL);
  });
});
