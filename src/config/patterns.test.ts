import { expect, test } from "bun:test";
import { choicePatternSchema, hubPatternSchema, parsePattern } from "./patterns.ts";

test("reads a star, a name, a comma list and a list of names", () => {
  expect(parsePattern("*")).toBe("*");
  expect(parsePattern("chat")).toEqual(["chat"]);
  expect(parsePattern("chat, news")).toEqual(["chat", "news"]);
  expect(parsePattern(["chat", "news"])).toEqual(["chat", "news"]);
});

test("keeps a hub's comma in the list form only, since a comma list splits there", () => {
  const schema = hubPatternSchema();
  expect(schema.parse(["a,b", "c.d[0]"])).toEqual(["a,b", "c.d[0]"]);
  expect(schema.parse("a,b")).toEqual(["a", "b"]);
});

test("a star among names matches everything", () => {
  expect(parsePattern("chat,*")).toBe("*");
  expect(parsePattern(["*"])).toBe("*");
});

for (const bad of ["", [], "a,,b", ["a", ""], "1chat", "chat*", "a b", `a${"b".repeat(128)}`]) {
  test(`refuses the hub pattern ${JSON.stringify(bad).slice(0, 20)}`, () => {
    expect(hubPatternSchema().safeParse(bad).success).toBeFalse();
  });
}

for (const good of ["_default", `a${"b".repeat(127)}`, "Chat"]) {
  test(`takes the hub pattern ${good.slice(0, 20)}`, () => expect(hubPatternSchema().parse(good)).toEqual([good]));
}

test("event patterns hold known names only, in their exact spelling", () => {
  const schema = choicePatternSchema(["connect", "message"]);
  expect(schema.parse("connect,message")).toEqual(["connect", "message"]);
  expect(schema.safeParse("Connect").success).toBeFalse();
  expect(schema.safeParse("connect,SECRET").error?.issues[0]?.message).toBe(
    'each name must be one of connect, message; or "*" for all',
  );
  expect(schema.safeParse(5).error?.issues[0]?.message).toBe("must be text or a list of texts");
});
