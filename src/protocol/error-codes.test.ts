import { describe, expect, test } from "bun:test";
import { ERROR_CODES, type ErrorCode, formatRefusal, refusal } from "./error-codes.ts";

const codes = Object.keys(ERROR_CODES) as ErrorCode[];

describe("the table of error codes", () => {
  test.each(codes)("%s is an HTTP error with a sentence", (code) => {
    const { status, meaning } = ERROR_CODES[code];
    expect(status >= 400 && status < 600).toBe(true);
    expect(meaning).toMatch(/^[A-Z`].*\.$/);
    expect(code).toMatch(/^[a-z]+(?:_[a-z]+)*$/);
  });

  test("no two codes say the same", () => {
    expect(new Set(codes.map((code) => ERROR_CODES[code].meaning)).size).toBe(codes.length);
  });
});

describe("a refusal", () => {
  test("has its code's status, and no further headers unless they are given", () => {
    expect(refusal("bad_hub", "no hub", "hub")).toEqual({
      status: 400,
      code: "bad_hub",
      message: "no hub",
      target: "hub",
      headers: {},
    });
    expect(refusal("connect_rate", "slow down", "rate", { "Retry-After": "1" }).headers).toEqual({
      "Retry-After": "1",
    });
  });

  test("is JSON of code, message and target, and of nothing else", () => {
    const body = formatRefusal(refusal("connect_rate", 'say "please"\n', "rate", { "Retry-After": "1" }));
    expect(JSON.parse(body)).toEqual({ code: "connect_rate", message: 'say "please"\n', target: "rate" });
  });
});
