import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ANY_TEXT, COMMON_FACTS, EVERY_FACT } from "../../test/support/facts.ts";
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

describe("a connection's facts", () => {
  test("are all stored, sent to other nodes, and copied", () => {
    expect(fromFactsRow(toFactsRow(EVERY_FACT))).toEqual(EVERY_FACT);
    expect(copyFacts(EVERY_FACT)).toEqual(EVERY_FACT);
    const { connectionId, hub, userId, ...others } = EVERY_FACT;
    expect(parseFacts(formatFacts(EVERY_FACT))).toEqual(others);
    expect(toFactsRow(EVERY_FACT).slice(0, 3)).toEqual([connectionId, hub, userId]);
  });

  test("come back as they were, with any text and any facts of a newer version", () => {
    fc.assert(
      fc.property(COMMON_FACTS, fc.dictionary(ANY_TEXT, fc.jsonValue()), (facts, added) => {
        const { claims, clientQuery, forwardedFor, ...rare } = added;
        const all = Object.keys(rare).length === 0 ? facts : ({ ...facts, rare } as ConnectionFacts);
        // As JSON has it: -0 is 0 there.
        expect(fromFactsRow(toFactsRow(all))).toEqual(JSON.parse(JSON.stringify(all)));
      }),
    );
  });

  test("of a connection without a user have an empty text for it where they are stored, as earlier versions wrote it", () => {
    const { rare: _rare, ...common } = { ...EVERY_FACT, userId: null };
    expect(toFactsRow(common)[2]).toBe("");
    expect(toFirstFormRow(common)[2]).toBe("");
    expect(fromFactsRow(["c1", "chat", "", formatFacts(common)])).toEqual(common);
    expect(fromEarlierRow(["c1", "chat", "", "sub: ann", "a=b", "10.0.0.1"])).toEqual(common);
  });

  test("of a connection without rare ones have no such field", () => {
    const { rare: _rare, ...common } = EVERY_FACT;
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
    const { rare, ...common } = EVERY_FACT;
    const row = ["c1", "chat", "ann", "sub: ann", "a=b", "10.0.0.1"];
    expect(toFirstFormRow(EVERY_FACT)).toEqual(row);
    expect(fromEarlierRow(row)).toEqual(common);
    expect(fromEarlierRow([...row, ""])).toEqual(common);
    expect(fromEarlierRow([...row, JSON.stringify(rare)])).toEqual(EVERY_FACT);
  });
});
