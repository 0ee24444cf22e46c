import { describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import fc from "fast-check";
import { signToken } from "../../test/support/tokens.ts";
import { parseClaims } from "../protocol/claims.ts";
import { formatRefusal } from "../protocol/error-codes.ts";
import { claimValue, type SignedToken, timeFault, tokenRefusal, verifySignedToken } from "./signed-token.ts";

const KEYS = { primary: "first-key-of-these-tests", secondary: "second-key-of-these-tests" };

function verify(claims: Parameters<typeof signToken>[0], options: Partial<Parameters<typeof signToken>[1]> = {}) {
  return verifySignedToken(signToken(claims, { key: KEYS.primary, ...options }), KEYS);
}

describe("the signature", () => {
  test.each([KEYS.primary, KEYS.secondary])("by either key is good: %s", (key) => {
    expect(verify({ exp: 10 }, { key })).toMatchObject({ expiresAt: 10, notBefore: Number.NEGATIVE_INFINITY });
  });

  test("is made over the UTF-8 bytes of a key, not over their Base64 decoding", () => {
    const keys = { primary: "c2VjcmV0LWluLWJhc2U2NA==ü", secondary: null };
    expect(verifySignedToken(signToken({ exp: 10 }, { key: keys.primary }), keys)).toMatchObject({
      expiresAt: 10,
    });
  });

  test("by another key, or by one that is no longer set, is refused", () => {
    expect(verify({ exp: 10 }, { key: "another" })).toBe("token_signature");
    const token = signToken({ exp: 10 }, { key: KEYS.secondary });
    expect(verifySignedToken(token, { ...KEYS, secondary: null })).toBe("token_signature");
  });

  test.each(["none", "HS384", "HS512", "RS256", "hs256"])("of the algorithm %s is refused", (alg) => {
    expect(verify({ exp: 10 }, { alg })).toBe("token_malformed");
  });

  test("of which one character is another is refused", () => {
    const token = signToken({ exp: 10 }, { key: KEYS.primary });
    const [head = "", payload = "", signature = ""] = token.split(".");
    const other = signature.startsWith("A") ? "B" : "A";
    expect(verifySignedToken(`${head}.${payload}.${other}${signature.slice(1)}`, KEYS)).toBe("token_signature");
    expect(verifySignedToken(`${head}.${payload}A.${signature}`, KEYS)).toBe("token_signature");
  });

  test("over a payload that is no object of claims in UTF-8 makes no token", () => {
    for (const payload of ["", "[]", "null", "7", '"exp"', "{", '{"exp":10}x']) {
      expect(verify(payload)).toBe("token_malformed");
    }
  });
});

describe("the header", () => {
  const PAYLOAD = Buffer.from('{"exp":10}').toString("base64url");

  /** A token whose header is exactly this, with a good signature. */
  function withHeader(header: string | Uint8Array): string {
    const input = `${Buffer.from(header).toString("base64url")}.${PAYLOAD}`;
    return `${input}.${createHmac("sha256", KEYS.primary).update(input).digest("base64url")}`;
  }

  test.each(['{"alg":"HS256"}', '{"typ":"at+jwt","kid":"7","alg":"HS256"}', ' { "alg" : "HS256" } '])(
    "%s is accepted",
    (header) => {
      expect(verifySignedToken(withHeader(header), KEYS)).toMatchObject({ expiresAt: 10 });
    },
  );

  test.each([
    "",
    "null",
    "[]",
    '"HS256"',
    "{}",
    "{",
    '{"alg":null}',
    '{"alg":["HS256"]}',
    '{"__proto__":{"alg":"HS256"}}',
    '{"alg":"HS256","alg":"none"}',
    '{"alg":"HS256","crit":[]}',
    '{"alg":"HS256","crit":null}',
    '{"alg":"HS256","crit":["b64"],"b64":true}',
    '{"alg":"HS256","crit":["exp"],"exp":1}',
    '{"alg":"HS256"}x',
  ])("%s is refused, however good the signature", (header) => {
    expect(verifySignedToken(withHeader(header), KEYS)).toBe("token_malformed");
  });

  test("that is not UTF-8 is refused", () => {
    expect(verifySignedToken(withHeader(Buffer.from('{"alg":"HS256","a":"\xff"}', "latin1")), KEYS)).toBe(
      "token_malformed",
    );
  });
});

test("parts of a length that no bytes have in base64url are refused", () => {
  const [head = "", payload = "", signature = ""] = signToken({ exp: 10 }, { key: KEYS.primary }).split(".");
  const padded = payload.padEnd(Math.ceil(payload.length / 4) * 4 + 1, "A");
  for (const token of [`${head}.${padded}.${signature}`, `${head}.${payload}.AAAAA`]) {
    expect(verifySignedToken(token, KEYS)).toBe("token_malformed");
  }
});

test.each(["", "AA", "A".repeat(42), "A".repeat(44)])("a signature of another size is refused: %p", (signature) => {
  const [head, payload] = signToken({ exp: 10 }, { key: KEYS.primary }).split(".");
  expect(verifySignedToken(`${head}.${payload}.${signature}`, KEYS)).toBe("token_signature");
});

describe("claims of time", () => {
  test.each([
    ["no exp", {}],
    ["exp as text", { exp: "10" }],
    ["exp null", { exp: null }],
    ["nbf as text", { exp: 10, nbf: "1" }],
  ])("%s: the token is refused", (_what, claims) => {
    expect(verify(claims)).toBe("token_claims");
  });

  test("of a repeated claim the last one counts", () => {
    expect(verify('{"exp":1,"aud":"a","exp":2,"nbf":3,"nbf":4}')).toMatchObject({ expiresAt: 2, notBefore: 4 });
  });

  const token: SignedToken = { claims: [], expiresAt: 1000, notBefore: 500 };

  test.each([
    [439.9, "token_not_yet_valid"],
    [440, null],
    [1000, null],
    [1059.9, null],
    [1060, "token_expired"],
    [Number.MAX_SAFE_INTEGER, "token_expired"],
  ] as const)("60 s of leeway are given at both ends: at %p it is %p", (now, fault) => {
    expect(timeFault(token, now)).toBe(fault);
  });
});

test("a claim that is absent is undefined, one that is null is null", () => {
  const claims = parseClaims('{"a":1,"b":null,"a":2}') ?? [];
  expect([claimValue(claims, "a"), claimValue(claims, "b"), claimValue(claims, "c")]).toEqual([2, null, undefined]);
});

test("a refusal is 401, names the check that failed, and holds nothing of token or key", () => {
  const faults = [
    ...(["token_malformed", "token_signature", "token_claims"] as const),
    ...(["token_expired", "token_not_yet_valid", "token_audience"] as const),
  ];
  for (const fault of faults) {
    const refused = tokenRefusal(fault);
    expect(refused).toMatchObject({ status: 401, code: fault });
    expect(formatRefusal(refused)).not.toContain(KEYS.primary);
  }
});

test("any text in the place of a token is refused without a throw", () => {
  const segment = fc.oneof(fc.string(), fc.constantFrom("", "eyJhbGciOiJIUzI1NiJ9", "e30", "bnVsbA"));
  const text = fc.oneof(
    fc.string(),
    fc.array(segment, { maxLength: 6 }).map((parts) => parts.join(".")),
  );
  fc.assert(
    fc.property(text, (token) => {
      expect(verifySignedToken(token, KEYS)).toBeOneOf(["token_malformed", "token_signature"]);
    }),
  );
});
