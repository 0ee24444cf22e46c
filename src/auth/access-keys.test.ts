import { expect, test } from "bun:test";
import { formatSignature } from "./access-keys.ts";

// printf 'conn-1_ABC' | openssl dgst -sha256 -hmac KEY
const BY_PRIMARY = "a1410e797f98185fa8fbae43fd7ecc03e98a4329f61123f4f7277a9a80b57ae4";
const BY_SECONDARY = "db54e31a22fe409700145a69cdf2e35175695e93262248d3ad7147decdd6eb1d";

test("one key signs once", () => {
  expect(formatSignature("conn-1_ABC", { primary: "primary-key", secondary: null })).toBe(`sha256=${BY_PRIMARY}`);
});

test("two keys sign in their order, joined by a bare comma; a key is its UTF-8 bytes", () => {
  const keys = { primary: "primary-key", secondary: "schlüssel" };
  expect(formatSignature("conn-1_ABC", keys)).toBe(`sha256=${BY_PRIMARY},sha256=${BY_SECONDARY}`);
});

test("a key that looks like base64 is not decoded", () => {
  const [plain, decoded] = ["cHJpbWFyeS1rZXk=", "primary-key"].map((primary) =>
    formatSignature("conn-1_ABC", { primary, secondary: null }),
  );
  expect(plain).not.toBe(decoded ?? "");
});
