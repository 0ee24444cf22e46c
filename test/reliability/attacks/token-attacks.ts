import { createHash, createHmac, generateKeyPairSync } from "node:crypto";
import { KEYS } from "../../support/gateway.ts";
import { secondsFromNow, signRsaToken, signToken } from "../../support/tokens.ts";
import { type Claims, forge, part, repeated } from "./forge.ts";

/** Where a token is shown: the URL that it must name, and one that leads elsewhere. */
export interface Target {
  /** Scheme, host and port. */
  readonly origin: string;
  /** The path that the token must name. */
  readonly path: string;
}

/** A name, a token that must be refused with 401, and the code that says so. */
export type Attack = readonly [name: string, token: (target: Target) => string, code: string];

const KEY = KEYS.primary;
/** What the attacker has. */
const OWN_KEY = "a-key-that-the-attacker-knows-of-at-least-32-bytes";

/** Claims that would open the door, with changes; undefined leaves one out. */
export function claimsFor({ origin, path }: Target, changes: Readonly<Record<string, unknown>> = {}) {
  return { sub: "mallory", aud: origin + path, exp: secondsFromNow(600), ...changes };
}

const withHeader = (header: Claims, key: string | Uint8Array = KEY) => {
  return (target: Target) => forge(claimsFor(target), { header, key });
};
const sealed = (seal: (signature: Buffer, input: string) => string, key: string | Uint8Array = KEY) => {
  return (target: Target) => forge(claimsFor(target), { key, seal });
};
const signedBy = (key: string | Uint8Array) => (target: Target) => forge(claimsFor(target), { key });
const claiming = (changes: Readonly<Record<string, unknown>>) => (target: Target) =>
  forge(claimsFor(target, changes), { key: KEY });
/** The same, with claims that are made when the token is shown: a busy machine comes to it late. */
const claimingThen = (changes: () => Readonly<Record<string, unknown>>) => (target: Target) =>
  forge(claimsFor(target, changes()), { key: KEY });
const saying = (claims: (good: Readonly<Record<string, unknown>>) => string) => (target: Target) =>
  forge(claims(claimsFor(target)), { key: KEY });

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const rsaPem = String(rsa.privateKey.export({ type: "pkcs8", format: "pem" }));

/** No signature, or one by another algorithm than HS256, with any header. */
export const ALGORITHM_ATTACKS: readonly Attack[] = [
  ...["none", "None", "NONE", "nOnE", "none ", ""].flatMap((alg): Attack[] => [
    [`alg ${JSON.stringify(alg)}, no signature`, sealedHeader({ alg }, () => ""), "token_malformed"],
    [`alg ${JSON.stringify(alg)}, a good HMAC behind`, withHeader({ alg }), "token_malformed"],
  ]),
  ...["HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA", "hs256", "HS256 ", "HS2560"].map(
    (alg): Attack => [
      `alg ${JSON.stringify(alg)}, signed by HMAC with the key`,
      (target) => signToken(claimsFor(target), { key: KEY, alg }),
      "token_malformed",
    ],
  ),
  ["no alg", withHeader({ typ: "JWT" }), "token_malformed"],
  ["alg null", withHeader({ alg: null }), "token_malformed"],
  ["alg a list", withHeader({ alg: ["HS256"] }), "token_malformed"],
  ["alg a number", withHeader({ alg: 256 }), "token_malformed"],
  ["alg HS256, then none", withHeader('{"alg":"HS256","alg":"none"}'), "token_malformed"],
  ["truly RS256", (target) => signRsaToken(claimsFor(target), rsaPem), "token_malformed"],
  [
    "HMAC with an RSA public key",
    withHeader({ alg: "HS256" }, String(rsa.publicKey.export({ type: "spki", format: "pem" }))),
    "token_signature",
  ],
  ["a crit that nobody knows", withHeader({ alg: "HS256", crit: ["x"], x: 1 }), "token_malformed"],
  ["an empty crit", withHeader({ alg: "HS256", crit: [] }), "token_malformed"],
  ["crit b64, which RFC 7797 forbids here", withHeader({ alg: "HS256", crit: ["b64"], b64: true }), "token_malformed"],
  ["a crit that is no list", withHeader({ alg: "HS256", crit: "exp" }), "token_malformed"],
  ["a header that is no JSON", withHeader("alg=HS256"), "token_malformed"],
  ["a header that is a list", withHeader('[{"alg":"HS256"}]'), "token_malformed"],
];

function sealedHeader(header: Claims, seal: () => string): (target: Target) => string {
  return (target) => forge(claimsFor(target), { header, key: KEY, seal });
}

/** Headers that bring or name the attacker's own key; `url` is where a verifier that believes them would fetch it. */
export function keyHeaderAttacks(url: string): readonly Attack[] {
  const jwk = { kty: "oct", k: Buffer.from(OWN_KEY).toString("base64url"), alg: "HS256" };
  return [
    ["the attacker's key as jwk", withHeader({ alg: "HS256", jwk }, OWN_KEY), "token_signature"],
    ["jku to the attacker's server", withHeader({ alg: "HS256", jku: url }, OWN_KEY), "token_signature"],
    ["x5u to the attacker's server", withHeader({ alg: "HS256", x5u: url }, OWN_KEY), "token_signature"],
    ["x5c", withHeader({ alg: "HS256", x5c: ["AAAA"] }, OWN_KEY), "token_signature"],
    ["kid of an empty file", withHeader({ alg: "HS256", kid: "../../../../dev/null" }, ""), "token_signature"],
    ["kid with SQL", withHeader({ alg: "HS256", kid: "x' UNION SELECT 'k" }, "k"), "token_signature"],
    ["kid secondary", withHeader({ alg: "HS256", kid: "secondary" }, OWN_KEY), "token_signature"],
  ];
}

/** A right header, and a signature that is not the key's, or not written as it must be. */
export const SIGNATURE_ATTACKS: readonly Attack[] = [
  ["an empty signature", sealed(() => ""), "token_signature"],
  ["its first half", sealed((signature) => signature.subarray(0, 16).toString("base64url")), "token_signature"],
  ["all but its last byte", sealed((signature) => signature.subarray(0, 31).toString("base64url")), "token_signature"],
  [
    "a byte more",
    sealed((signature) => Buffer.concat([signature, Buffer.of(0)]).toString("base64url")),
    "token_signature",
  ],
  ["one bit changed", sealed((signature) => flipped(signature).toString("base64url")), "token_signature"],
  ["zeros", sealed(() => Buffer.alloc(32).toString("base64url")), "token_signature"],
  ["its hex digits", sealed((signature) => signature.toString("hex")), "token_signature"],
  ["the hash of key and text, no HMAC", sealed((_signature, input) => hashOf(KEY + input)), "token_signature"],
  ["the hash of the text alone", sealed((_signature, input) => hashOf(input)), "token_signature"],
  ["that of the claims alone", sealed((_signature, input) => hmacOf(input.split(".")[1] ?? "")), "token_signature"],
  ["that of another token", sealed(() => hmacOf(`${part({ alg: "HS256" })}.${part("{}")}`)), "token_signature"],
  ["another key's", signedBy(OWN_KEY), "token_signature"],
  ["the empty key's", signedBy(""), "token_signature"],
  ["a key of one NUL", signedBy("\0"), "token_signature"],
  ["the key decoded from base64", signedBy(Buffer.from(KEY, "base64")), "token_signature"],
  ["the key with a line end", signedBy(`${KEY}\n`), "token_signature"],
  ["the key without its padding", signedBy(KEY.replace(/=+$/, "")), "token_signature"],
  ["the key in lower case", signedBy(KEY.toLowerCase()), "token_signature"],
  ["both keys, one behind the other", signedBy(KEYS.primary + KEYS.secondary), "token_signature"],
  ["two signatures", sealed((signature) => `${signature.toString("base64url")};${hmacOf("x")}`), "token_malformed"],
  ["base64 that is not base64url", inPlainBase64, "token_malformed"],
  ["one padding sign behind it", (target) => `${signedBy(KEY)(target)}=`, "token_malformed"],
  ["a percent sign in it", (target) => signedBy(KEY)(target).replace(/(.{5})$/, "%$1"), "token_malformed"],
  ["another spelling of its last character", (target) => respelled(signedBy(KEY)(target)), "token_malformed"],
  ["two padding signs behind it", (target) => `${signedBy(KEY)(target)}==`, "token_malformed"],
];

/** The same bytes for a decoder that does not look at the unused bits of the last character. */
function respelled(token: string): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  return token.slice(0, -1) + alphabet.charAt(alphabet.indexOf(token.slice(-1)) + 1);
}

/** Texts that are no JWT. */
export const FORM_ATTACKS: readonly Attack[] = [
  ["a word", () => "nonsense", "token_malformed"],
  ["two dots", () => "..", "token_malformed"],
  ["two parts", (target) => signedBy(KEY)(target).split(".").slice(0, 2).join("."), "token_malformed"],
  ["four parts", (target) => `${signedBy(KEY)(target)}.`, "token_malformed"],
  [
    "five parts, as a JWE",
    (target) => `${part({ alg: "dir", enc: "A256GCM" })}..a.${part(claimsFor(target))}.a`,
    "token_malformed",
  ],
  ["a dot in front", (target) => `.${signedBy(KEY)(target)}`, "token_malformed"],
  ["the word Bearer in front", (target) => `Bearer.${signedBy(KEY)(target)}`, "token_malformed"],
  ["JSON serialisation", (target) => jsonForm(signedBy(KEY)(target)), "token_malformed"],
  ["a JWT inside a JWT", (target) => nested(target), "token_malformed"],
  ["claims that are a list", saying((good) => JSON.stringify([good])), "token_malformed"],
  ["claims that are a text", saying((good) => JSON.stringify(JSON.stringify(good))), "token_malformed"],
  ["claims that are null", saying(() => "null"), "token_malformed"],
  ["no claims", saying(() => ""), "token_malformed"],
  ["claims cut off", saying((good) => JSON.stringify(good).slice(0, -1)), "token_malformed"],
  ["claims and more", saying((good) => `${JSON.stringify(good)}{}`), "token_malformed"],
  ["single quotes", saying((good) => JSON.stringify(good).replaceAll('"', "'")), "token_malformed"],
  [
    "claims twice, one behind the other",
    saying((good) => `${JSON.stringify(good)}\n${JSON.stringify(good)}`),
    "token_malformed",
  ],
  ["claims that are no UTF-8", (target) => noUtf8(target), "token_malformed"],
];

/** Signed well, but never, no more or not yet in force. */
export const TIME_ATTACKS: readonly Attack[] = [
  ["no exp", claiming({ exp: undefined }), "token_claims"],
  ["an exp that is text", claiming({ exp: String(secondsFromNow(600)) }), "token_claims"],
  ["an empty exp", claiming({ exp: "" }), "token_claims"],
  ["exp null", claiming({ exp: null }), "token_claims"],
  ["exp true", claiming({ exp: true }), "token_claims"],
  ["exp in a list", claiming({ exp: [secondsFromNow(600)] }), "token_claims"],
  ["exp in an object", claiming({ exp: { valueOf: secondsFromNow(600) } }), "token_claims"],
  [
    "exp NaN, as no JSON has it",
    saying((good) => JSON.stringify(good).replace(/"exp":\d+/, '"exp":NaN')),
    "token_malformed",
  ],
  [
    "exp Infinity, as no JSON has it",
    saying((good) => JSON.stringify(good).replace(/"exp":\d+/, '"exp":Infinity')),
    "token_malformed",
  ],
  ["exp under another case", saying((good) => JSON.stringify(good).replace('"exp"', '"EXP"')), "token_claims"],
  [
    "exp 1e309, which is no end",
    saying((good) => JSON.stringify(good).replace(/"exp":\d+/, '"exp":1e309')),
    "token_claims",
  ],
  ["exp that no clock will show", claiming({ exp: 1e300 }), "token_claims"],
  ["exp 0", claiming({ exp: 0 }), "token_expired"],
  ["exp negative", claiming({ exp: -secondsFromNow(600) }), "token_expired"],
  ["exp far negative", saying((good) => JSON.stringify(good).replace(/"exp":\d+/, '"exp":-1e308')), "token_expired"],
  ["expired 61 s ago", claiming({ exp: secondsFromNow(-61) }), "token_expired"],
  ["exp good, then past", saying((good) => repeated(good, '"exp":1')), "token_expired"],
  ["exp good, then past under an escaped name", saying((good) => repeated(good, '"\\u0065xp":1')), "token_expired"],
  ["nbf in 65 s", claimingThen(() => ({ nbf: secondsFromNow(65) })), "token_not_yet_valid"],
  ["nbf far away", claiming({ nbf: 1e300 }), "token_not_yet_valid"],
  ["nbf that is text", claiming({ nbf: "0" }), "token_claims"],
  ["nbf null", claiming({ nbf: null }), "token_claims"],
];

/** Signed well, for another place. `origin` is ours. */
export const AUDIENCE_ATTACKS: readonly Attack[] = [
  ["no aud", claiming({ aud: undefined }), "token_audience"],
  ...[null, true, 7, "", [], {}, [[]], [null], ["a", "b"]].map(
    (aud): Attack => [`aud ${JSON.stringify(aud)}`, claiming({ aud }), "token_audience"],
  ),
  ...(
    [
      ["a list in a list", ({ origin, path }) => [[origin + path]]],
      ["an object with the URL", ({ origin, path }) => ({ 0: origin + path, length: 1 })],
      ["the path alone", ({ path }) => path],
      ["the host alone", ({ origin }) => origin],
      ["without a scheme", ({ origin, path }) => `${new URL(origin).host}${path}`],
      ["another host", ({ path }) => `http://evil.example${path}`],
      ["ours as the front of its host", ({ path }) => `http://127.0.0.1.evil.example${path}`],
      ["ours as the end of its host", ({ path }) => `http://evil127.0.0.1.example${path}`],
      ["ours as its user", ({ path }) => `http://127.0.0.1@evil.example${path}`],
      ["ours as its user and password", ({ path }) => `http://127.0.0.1:80@evil.example${path}`],
      ["ours behind a backslash", ({ origin, path }) => `http://evil.example\\@${new URL(origin).host}${path}`],
      ["ours in its query", ({ origin, path }) => `http://evil.example/?${origin}${path}`],
      ["ours in its fragment", ({ origin, path }) => `http://evil.example/#${origin}${path}`],
      ["ours under another scheme", ({ origin, path }) => origin.replace("http", "ftp") + path],
      ["ours inside another scheme", ({ origin, path }) => `blob:${origin}${path}`],
      ["two URLs in one text", ({ origin, path }) => `http://evil.example/ ${origin}${path}`],
      ["a path that begins the same", ({ origin, path }) => `${origin}${path}2`],
      ["a path that goes on", ({ origin, path }) => `${origin}${path}/more`],
      ["a path that ends earlier", ({ origin, path }) => origin + path.slice(0, -1)],
      ["a step up to another hub", ({ origin, path }) => `${origin}${path}/../admin`],
      ["an escaped step up", ({ origin, path }) => `${origin}${path}/%2e%2e/admin`],
      ["an escaped slash and a step up", ({ origin, path }) => `${origin}${path}%2f..%2fadmin`],
      ["a NUL behind the hub", ({ origin, path }) => `${origin}${path}%00`],
      ["a space behind the hub", ({ origin, path }) => `${origin}${path}%20`],
      ["an asterisk", ({ origin }) => `${origin}/*`],
      ["another hub", ({ origin, path }) => origin + path.replace("chat", "admin")],
      ["two slashes", ({ origin, path }) => `${origin}/${path}`],
    ] satisfies readonly (readonly [string, (target: Target) => unknown])[]
  ).map(
    ([name, aud]): Attack => [
      `aud: ${name}`,
      (target) => forge(claimsFor(target, { aud: aud(target) }), { key: KEY }),
      "token_audience",
    ],
  ),
  ["aud good, then another", saying((good) => repeated(good, '"aud":"http://evil.example/"')), "token_audience"],
];

/** A good token whose signature holds a plus or a slash, where base64url has other characters. */
function inPlainBase64(target: Target): string {
  for (let jti = 0; ; jti++) {
    const [header, claims, signature = ""] = claiming({ jti })(target).split(".");
    if (/[-_]/.test(signature)) return [header, claims, signature.replaceAll("-", "+").replaceAll("_", "/")].join(".");
  }
}

function flipped(signature: Buffer): Buffer {
  const changed = Buffer.from(signature);
  changed[5] = (changed[5] ?? 0) ^ 1;
  return changed;
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("base64url");
}

function hmacOf(text: string): string {
  return createHmac("sha256", KEY).update(text).digest("base64url");
}

function jsonForm(token: string): string {
  const [header, payload, signature] = token.split(".");
  return JSON.stringify({ payload, protected: header, signature });
}

function nested(target: Target): string {
  return forge(signedBy(KEY)(target), { header: { alg: "HS256", cty: "JWT" }, key: KEY });
}

function noUtf8(target: Target): string {
  const claims = Buffer.from(JSON.stringify(claimsFor(target, { role: "\u00ff" })), "latin1").toString("base64url");
  const input = `${part({ alg: "HS256" })}.${claims}`;
  return `${input}.${hmacOf(input)}`;
}
