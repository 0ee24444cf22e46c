import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { bytesOf, EarlierDataDir, type Ending, makeNewer, VERSIONS } from "../../test/support/earlier-versions.ts";
import { unexpected } from "../../test/support/notices.ts";
import type { RuleKey } from "../core/rule-store.ts";
import { SqliteRuleStore } from "./sqlite.ts";

const ENDINGS: readonly Ending[] = ["closed", "killed"];

function openStore(dataDir: string): SqliteRuleStore {
  return new SqliteRuleStore({ dataDir, report: unexpected });
}

describe.each(VERSIONS)("the rules of %s", (version) => {
  test.each(ENDINGS)("%s: hold as they were, and take changes", async (ending) => {
    using earlier = new EarlierDataDir(version, ending);
    const store = openStore(earlier.dataDir);
    const rules: RuleKey[] = [];
    await store.watch(({ revision: _revision, ...rule }) => void rules.push(rule));
    expect(rules).toEqual([
      expect.objectContaining({ hub: "chat", userId: "ann", group: "red", expiresAtMs: 4_000_000_000_000 }),
      expect.objectContaining({ hub: "chat", userId: "bob", group: "blue", expiresAtMs: 4_000_000_000_000 }),
    ]);
    expect(await store.put({ hub: "chat", userId: "cid", group: "red", expiresAtMs: 1 })).toMatchObject({
      kind: "written",
    });
    await store.close();
  });
});

test.each(ENDINGS)("rules of a newer version, %s: stop the start and keep every byte of the folder", async (ending) => {
  using earlier = new EarlierDataDir("version-1", "closed");
  const path = join(earlier.dataDir, "rules.sqlite");
  await makeNewer(path, ending);
  const before = bytesOf(earlier.dataDir);
  expect(() => openStore(earlier.dataDir)).toThrow(`${path} was written by a newer version of hubwire`);
  expect(bytesOf(earlier.dataDir)).toEqual(before);
});
