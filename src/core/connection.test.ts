import { expect, test } from "bun:test";
import { EVERY_FACT } from "../../test/support/facts.ts";
import { toFactsRow } from "../protocol/facts.ts";
import { Connection } from "./connection.ts";

test("a connection has every fact that it was made of, and no empty record of rare ones", () => {
  expect(toFactsRow(new Connection(EVERY_FACT))).toEqual(toFactsRow(EVERY_FACT));
  const { rare: _rare, ...common } = EVERY_FACT;
  expect("rare" in new Connection(common)).toBe(false);
});
