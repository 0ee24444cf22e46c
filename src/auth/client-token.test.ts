import { describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import fc from "fast-check";
import { signRsaToken, signToken } from "../../test/support/tokens.ts";
import { MAX_CLAIMS_BYTES } from "../protocol/claims.ts";
import { verifyClientToken } from "./client-token.ts";
import { makeClientToken } from "./make-token.ts";

const KEYS = { primary: "the primary key of these tests", secondary: "and the sécondary one" };
const ENDPOINT = { hosts: ["example.com"], hub: "chat", clientPath: null };
const AUDIENCE = "https://example.com/client/hubs/chat";
const NOW = 1_600_000_000;
const GOOD = { sub: "alice", aud: AUDIENCE, exp: NOW + 600 };

const verify = (token: string, keys: { primary: string; secondary: string | null } = KEYS) =>
  verifyClientToken(token, ENDPOINT, keys, NOW);

/** Signs with the primary key and verifies. */
const verifyClaims = (claims: string | Readonly<Record<string, unknown>>) =>
  verify(signToken(claims, { key: KEYS.primary }));

function codeOf(result: ReturnType<typeof verify>): string {
  const { kind, ...rest } = result;
  if (kind === "identity" || !("refusal" in rest)) return "good";
  return `${rest.refusal.status} ${rest.refusal.code}`;
}

function identityOf(verified: ReturnType<typeof verify>): { userId: string | null; claims: string } {
  if (verified.kind === "refused") throw new Error(verified.refusal.code);
  return verified.identity;
}

describe("a good token", () => {
  test("gives its user and all its claims, in order", () => {
    expect(identityOf(verifyClaims(GOOD))).toEqual({
      userId: "alice",
      claims: `sub: alice, aud: ${AUDIENCE}, exp: ${NOW + 600}`,
    });
  });

  test("may be signed with either key, and with no third", () => {
    expect(codeOf(verify(signToken(GOOD, { key: KEYS.secondary })))).toBe("good");
    expect(codeOf(verify(signToken(GOOD, { key: "another" })))).toBe("401 token_signature");
    expect(codeOf(verify(signToken(GOOD, { key: KEYS.secondary }), { ...KEYS, secondary: null }))).toBe(
      "401 token_signature",
    );
  });

  test("may come without a user, who is then none", () => {
    const { sub: _sub, ...anonymous } = GOOD;
    expect(identityOf(verifyClaims(anonymous)).userId).toBeNull();
    expect(identityOf(verifyClaims({ ...anonymous, sub: "" })).userId).toBeNull();
    expect(codeOf(verifyClaims({ ...anonymous, sub: null }))).toBe("401 token_claims");
  });

  test("names its user by nameid where sub is absent, and only there", () => {
    const { sub: _sub, ...anonymous } = GOOD;
    expect(identityOf(verifyClaims({ ...anonymous, nameid: "zoë" })).userId).toBe("zoë");
    expect(identityOf(verifyClaims({ ...GOOD, nameid: "eve" })).userId).toBe("alice");
  });

  test("is one that hubwire makes itself", async () => {
    const key = KEYS.primary;
    const token = await makeClientToken(key, { audience: AUDIENCE, userId: "zoë", ttlSeconds: 60 });
    const now = Date.now() / 1000;
    expect(verifyClientToken(token, ENDPOINT, KEYS, now)).toMatchObject({ identity: { userId: "zoë" } });
    expect(codeOf(verifyClientToken(token, ENDPOINT, KEYS, now + 119))).toBe("good");
    expect(codeOf(verifyClientToken(token, ENDPOINT, KEYS, now + 121))).toBe("401 token_expired");
  });
});

describe("the algorithm", () => {
  test.each(["none", "None", "HS384", "HS512", "RS256", "ES256", "", "hs256"])("%j is refused", (alg) => {
    expect(codeOf(verify(signToken(GOOD, { key: KEYS.primary, alg })))).toBe("401 token_malformed");
  });

  test("none with a signature of the right key is refused too", () => {
    const [header = "", payload = ""] = signToken(GOOD, { key: KEYS.primary, alg: "none" }).split(".");
    const [, , signature = ""] = signToken(GOOD, { key: KEYS.primary }).split(".");
    expect(codeOf(verify(`${header}.${payload}.${signature}`))).toBe("401 token_malformed");
  });

  test("a token truly signed by an RSA key is refused, and so is one made with its public key as the secret", () => {
    const { privateKey, publicKey } = generateKeyPairSync("rsa", {
      modulusLength: 2048,
      publicKeyEncoding: { type: "spki", format: "pem" },
      privateKeyEncoding: { type: "pkcs8", format: "pem" },
    });
    expect(codeOf(verify(signRsaToken(GOOD, privateKey)))).toBe("401 token_malformed");
    expect(codeOf(verify(signToken(GOOD, { key: publicKey })))).toBe("401 token_signature");
  });

  test("a critical header that nobody here knows is refused", () => {
    expect(codeOf(verify(signToken(GOOD, { key: KEYS.primary, header: { crit: ["x"], x: 1 } })))).toBe(
      "401 token_malformed",
    );
  });
});

describe("time", () => {
  test.each([
    [{ exp: NOW - 59 }, "good"],
    [{ exp: NOW - 60 }, "401 token_expired"],
    [{ exp: NOW - 61 }, "401 token_expired"],
    [{ nbf: NOW + 60 }, "good"],
    [{ nbf: NOW + 61 }, "401 token_not_yet_valid"],
    [{ nbf: NOW - 1 }, "good"],
    [{ exp: undefined }, "401 token_claims"],
    [{ exp: String(NOW + 600) }, "401 token_claims"],
    [{ exp: null }, "401 token_claims"],
    [{ nbf: "0" }, "401 token_claims"],
    [{ nbf: null }, "401 token_claims"],
  ])("%j: %s", (over, code) => expect(codeOf(verifyClaims({ ...GOOD, ...over }))).toBe(code));

  test("of a repeated claim the last counts, as everywhere in JSON", () => {
    const claims = (first: number, second: number) => `{"aud":"${AUDIENCE}","exp":${first},"exp":${second}}`;
    expect(codeOf(verifyClaims(claims(NOW - 600, NOW + 600)))).toBe("good");
    expect(codeOf(verifyClaims(claims(NOW + 600, NOW - 600)))).toBe("401 token_expired");
  });
});

describe("the audience", () => {
  test.each([
    [undefined],
    ["https://example.com/client/hubs/other"],
    ["https://evil.example/client/hubs/chat"],
    [[]],
    [7],
  ])("%j is refused", (aud) => {
    expect(codeOf(verifyClaims({ ...GOOD, aud }))).toBe("401 token_audience");
  });

  test("may be a list", () => {
    expect(codeOf(verifyClaims({ ...GOOD, aud: ["https://elsewhere/", AUDIENCE] }))).toBe("good");
  });
});

describe("the user id", () => {
  test.each([" alice", "alice ", "a\nb", "a\u0000", "a".repeat(513), "\ud800"])("%j is 400", (sub) => {
    expect(codeOf(verifyClaims({ ...GOOD, sub }))).toBe("400 bad_user");
  });

  test.each([[7], [true], [{ a: 1 }], [["alice"]]])("%j is no string: 401", (sub) => {
    expect(codeOf(verifyClaims({ ...GOOD, sub }))).toBe("401 token_claims");
  });

  test("of 512 bytes is taken", () => {
    expect(identityOf(verifyClaims({ ...GOOD, sub: "ü".repeat(256) })).userId).toBe("ü".repeat(256));
  });
});

describe("the size of the claims", () => {
  test("counts as a header: 8 KiB pass, one byte more is 431", () => {
    const { claims } = identityOf(verifyClaims({ ...GOOD, pad: "" }));
    const room = MAX_CLAIMS_BYTES - claims.length;
    expect(identityOf(verifyClaims({ ...GOOD, pad: "x".repeat(room) })).claims).toHaveLength(MAX_CLAIMS_BYTES);
    expect(codeOf(verifyClaims({ ...GOOD, pad: "x".repeat(room + 1) }))).toBe("431 claims_too_large");
    expect(codeOf(verifyClaims({ ...GOOD, pad: "ü".repeat(Math.ceil(room / 6) + 1) }))).toBe("431 claims_too_large");
  });
});

describe("what is no token", () => {
  const [header = "", payload = "", signature = ""] = signToken(GOOD, { key: KEYS.primary }).split(".");
  test.each([
    "",
    " ",
    ".",
    "..",
    "a.b.c",
    `${header}.${payload}`,
    `${header}.${payload}.`,
    `${header}.${payload}.${signature}.${signature}`,
    `${header}.${payload}.%%%`,
    ` ${header}.${payload}.${signature}`,
    `${payload}.${header}.${signature}`,
  ])("%j is 401", (token) => {
    expect(codeOf(verify(token))).toMatch(/^401 token_(?:malformed|signature)$/);
  });

  test("a changed payload, header or signature is 401", () => {
    const other = signToken({ ...GOOD, sub: "eve" }, { key: KEYS.primary }).split(".")[1] ?? "";
    expect(codeOf(verify(`${header}.${other}.${signature}`))).toBe("401 token_signature");
    const flipped = signature.startsWith("A") ? `B${signature.slice(1)}` : `A${signature.slice(1)}`;
    expect(codeOf(verify(`${header}.${payload}.${flipped}`))).toBe("401 token_signature");
  });

  test.each(["[]", "null", '"text"', "{", "not json", ""])("a signed payload of %j is 401", (text) => {
    expect(codeOf(verifyClaims(text))).toBe("401 token_malformed");
  });
});

test("a refusal holds neither the token nor a claim nor a key", () => {
  const secret = "S3CRET-in-a-claim";
  for (const over of [
    { exp: NOW - 600 },
    { aud: secret },
    { sub: ` ${secret}` },
    { sub: 7, secret },
    { exp: secret },
  ]) {
    const token = signToken({ ...GOOD, secret, ...over }, { key: KEYS.primary });
    const result = JSON.stringify(verify(token));
    for (const hidden of [secret, token.split(".")[1] ?? "", KEYS.primary]) expect(result).not.toContain(hidden);
  }
});

test("never throws, for any text of a client", () => {
  const piece = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.constantFrom("eyJhbGciOiJIUzI1NiJ9", "e30", "."),
    fc.string().map((text) => Buffer.from(text).toString("base64url")),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 4 }), (pieces) => {
      expect(codeOf(verify(pieces.join(".")))).toStartWith("401 ");
    }),
  );
});
