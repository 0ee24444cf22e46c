import { expect, test } from "bun:test";
import { type ConnectionFacts, toFactsRow } from "../protocol/facts.ts";
import { Connection } from "./connection.ts";

const ALL: Required<ConnectionFacts> = {
  connectionId: "c1",
  hub: "chat",
  userId: "ann",
  claims: "sub: ann",
  clientQuery: "a=b",
  forwardedFor: "10.0.0.1",
  rare: { userIdCoding: "latin1" },
};

test("a connection has every fact that it was made of, and no empty record of rare ones", () => {
  expect(toFactsRow(new Connection(ALL))).toEqual(toFactsRow(ALL));
  const { rare: _rare, ...common } = ALL;
  expect("rare" in new Connection(common)).toBe(false);
});
