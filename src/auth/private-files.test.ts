import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AS_OTHER_USER, canRunAsOtherUser } from "../../test/support/other-user.ts";
import { closeToOthers, makeFolder, makePrivateFile, readPrivateText, replacePrivateText } from "./private-files.ts";

let parent: string;
let path: string;

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), "hubwire-private-"));
  path = join(parent, "file");
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

const modeOf = (of: string): string => (statSync(of).mode & 0o7777).toString(8);

/** Runs with umask 0: then a file has exactly the mode that it was made with. */
function unmasked(run: () => void): void {
  const before = process.umask(0);
  try {
    run();
  } finally {
    process.umask(before);
  }
}

describe("a folder", () => {
  test("that is missing is made for its owner alone, with those above it, with any umask", () => {
    unmasked(() => makeFolder(join(parent, "deep", "data")));
    expect([modeOf(join(parent, "deep")), modeOf(join(parent, "deep", "data"))]).toEqual(["700", "700"]);
  });

  test.each([0o755, 0o2775, 0o777, 0o500])("of mode %o that is there stays as it is", (mode) => {
    chmodSync(parent, mode);
    makeFolder(parent);
    expect(modeOf(parent)).toBe(mode.toString(8));
    chmodSync(parent, 0o700);
  });
});

describe("a file", () => {
  test("that is missing is made empty with mode 0600, with any umask", () => {
    unmasked(() => makePrivateFile(path));
    expect([modeOf(path), readFileSync(path, "utf8")]).toEqual(["600", ""]);
  });

  test("that is there keeps its content, and is closed to others", () => {
    writeFileSync(path, "content");
    chmodSync(path, 0o664);
    makePrivateFile(path);
    expect([modeOf(path), readFileSync(path, "utf8")]).toEqual(["600", "content"]);
  });

  test("with less than 0600 stays so", () => {
    writeFileSync(path, "");
    chmodSync(path, 0o400);
    closeToOthers(path);
    expect(modeOf(path)).toBe("400");
  });

  test("that is missing need not be closed to others", () => {
    closeToOthers(path);
    expect(existsSync(path)).toBe(false);
  });

  test.skipIf(!canRunAsOtherUser())(
    "of another user is left as it is, since only its owner can change its mode",
    () => {
      writeFileSync(path, "content");
      chmodSync(path, 0o666);
      chmodSync(parent, 0o777);
      const script = `import { makePrivateFile, readPrivateText } from ${JSON.stringify(join(import.meta.dir, "private-files.ts"))};
        makePrivateFile(${JSON.stringify(path)});
        console.log(readPrivateText(${JSON.stringify(path)}));`;
      const [command, ...words] = [...AS_OTHER_USER, process.execPath, "-e", script];
      const { stdout, stderr } = spawnSync(command, words, {
        encoding: "utf8",
        env: { HOME: "/", PATH: "/usr/bin" },
      });
      expect(stderr).toBe("");
      expect(stdout).toBe("content\n");
      expect(modeOf(path)).toBe("666");
    },
  );
});

describe("a symbolic link in the place of a file", () => {
  beforeEach(() => {
    writeFileSync(join(parent, "target"), "another's");
    chmodSync(join(parent, "target"), 0o644);
  });

  const uses: readonly (readonly [string, () => void])[] = [
    ["made", () => makePrivateFile(path)],
    ["closed to others", () => closeToOthers(path)],
    ["read", () => readPrivateText(path)],
  ];
  for (const [what, use] of uses) {
    for (const target of ["target", "nowhere"]) {
      test(`is refused where it is ${what} and leads to ${target}`, () => {
        symlinkSync(join(parent, target), path);
        expect(use).toThrow(`${path} is not a regular file`);
        expect([readFileSync(join(parent, "target"), "utf8"), modeOf(join(parent, "target"))]).toEqual([
          "another's",
          "644",
        ]);
        expect(existsSync(join(parent, "nowhere"))).toBe(false);
      });
    }
  }

  test("is replaced, and what it leads to stays", () => {
    for (const link of [path, `${path}.draft`]) symlinkSync(join(parent, "target"), link);
    unmasked(() => replacePrivateText(path, "new"));
    expect(lstatSync(path).isSymbolicLink()).toBe(false);
    expect([readFileSync(path, "utf8"), modeOf(path)]).toEqual(["new", "600"]);
    expect(readFileSync(join(parent, "target"), "utf8")).toBe("another's");
    expect(existsSync(`${path}.draft`)).toBe(false);
  });
});

describe("a text", () => {
  test("is null where there is no file, and is read where there is one, whose mode stays", () => {
    expect(readPrivateText(path)).toBeNull();
    writeFileSync(path, "ünï");
    chmodSync(path, 0o644);
    expect(readPrivateText(path)).toBe("ünï");
    expect(modeOf(path)).toBe("644");
  });

  test("of 64 KiB is read, a longer one is refused", () => {
    writeFileSync(path, "x".repeat(65_536));
    expect(readPrivateText(path)).toHaveLength(65_536);
    writeFileSync(path, "x".repeat(65_537));
    expect(() => readPrivateText(path)).toThrow(`${path} is longer than 65536 bytes`);
  });

  test("is not waited for where a pipe or a folder is in its place", () => {
    mkdirSync(path);
    expect(() => readPrivateText(path)).toThrow(`${path} is not a regular file`);
    const pipe = join(parent, "pipe");
    expect(spawnSync("mkfifo", [pipe]).status).toBe(0);
    expect(() => readPrivateText(pipe)).toThrow(`${pipe} is not a regular file`);
  });
});
