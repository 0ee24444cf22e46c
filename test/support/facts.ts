import fc from "fast-check";
import type { ConnectionFacts, RareFacts } from "../../src/protocol/facts.ts";

/** Every fact of a connection. The type makes it complete: `tsc` asks for a fact that is added, so that tests find out where it is lost. */
export const EVERY_FACT: Required<ConnectionFacts> & { readonly userId: string; readonly rare: Required<RareFacts> } = {
  connectionId: "c1",
  hub: "chat",
  userId: "ann",
  claims: "sub: ann",
  clientQuery: "a=b",
  forwardedFor: "10.0.0.1",
  rare: {
    userIdCoding: "latin1",
    dialect: "asrs",
    encoding: "raw",
    clientPath: "/ocpp/CP%201",
    news: [1, { é: null }],
  },
};

/** Any text that a JavaScript string can hold. */
export const ANY_TEXT: fc.Arbitrary<string> = fc.string({ unit: "binary" });

/** A user id of any text, or none. */
export const ANY_USER_ID: fc.Arbitrary<string | null> = fc.option(fc.string({ unit: "binary", minLength: 1 }));

/** Facts of any text, without rare ones. */
export const COMMON_FACTS: fc.Arbitrary<Omit<ConnectionFacts, "rare">> = fc.record({
  connectionId: ANY_TEXT,
  hub: ANY_TEXT,
  userId: ANY_USER_ID,
  claims: ANY_TEXT,
  clientQuery: ANY_TEXT,
  forwardedFor: ANY_TEXT,
});
