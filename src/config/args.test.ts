import { describe, expect, test } from "bun:test";
import { parseArgs, UsageError } from "./args.ts";

function usageOf(...argv: string[]): string {
  try {
    return JSON.stringify(parseArgs(argv));
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
}

function helpOf(...argv: string[]): string {
  const command = parseArgs(argv);
  return command.name === "help" ? command.text : "";
}

describe("start and check", () => {
  test("start alone looks for the file itself", () => {
    expect(parseArgs(["start"])).toEqual({ name: "start", configFile: null, example: null, flags: {} });
  });

  test("take a file and every option's flag, in both forms", () => {
    const argv = ["--config", "a.yaml", "--listen-port=9000", "--data-dir", "/tmp/x", "--limits-max-connections", "5"];
    const flags = { "listen-port": "9000", "data-dir": "/tmp/x", "limits-max-connections": "5" };
    expect(parseArgs(["start", ...argv])).toEqual({ name: "start", configFile: "a.yaml", example: null, flags });
    expect(parseArgs(["check", ...argv])).toEqual({ name: "check", configFile: "a.yaml", flags });
  });

  test("a bare switch means true; a word after it counts only as true or false", () => {
    const flagsOf = (...argv: string[]) => {
      const command = parseArgs(["start", ...argv]);
      return command.name === "start" ? command.flags : {};
    };
    expect(flagsOf("--listen-reuse-port")).toEqual({ "listen-reuse-port": "true" });
    expect(flagsOf("--listen-reuse-port", "false")).toEqual({ "listen-reuse-port": "false" });
    expect(flagsOf("--listen-reuse-port", "--anonymous", "deny")).toEqual({
      "listen-reuse-port": "true",
      anonymous: "deny",
    });
  });

  test("a value may be empty or hold an equals sign", () => {
    expect(parseArgs(["check", "--upstreams=[a=b]", "--data-dir="])).toMatchObject({
      flags: { upstreams: "[a=b]", "data-dir": "" },
    });
  });

  test("npm start names the example, and a file behind it runs the gateway alone", () => {
    expect(parseArgs(["start", "--example", "chat"])).toMatchObject({ example: "chat", configFile: null });
    expect(parseArgs(["start", "--example", "chat", "--config", "a.yaml"])).toMatchObject({
      example: null,
      configFile: "a.yaml",
    });
  });
});

describe("token", () => {
  test("takes hub and user, and an hour when no time is given", () => {
    expect(parseArgs(["token", "--hub", "chat", "--user", "ann"])).toEqual({
      name: "token",
      configFile: null,
      hub: "chat",
      user: "ann",
      ttlSeconds: 3600,
    });
    expect(parseArgs(["token", "--hub=a", "--user=b", "--ttl", "60", "--config", "c.yaml"])).toMatchObject({
      ttlSeconds: 60,
      configFile: "c.yaml",
    });
  });

  test("needs both", () => {
    expect(usageOf("token", "--user", "ann")).toBe("hubwire token needs --hub. See hubwire token --help.");
    expect(usageOf("token", "--hub", "chat", "--user=")).toBe("hubwire token needs --user. See hubwire token --help.");
  });

  test("holds the time to 1 second and a year, ends included", () => {
    for (const good of ["1", "31536000"])
      expect(usageOf("token", "--hub=a", "--user=b", "--ttl", good)).toContain(good);
    for (const bad of ["0", "31536001", "1.5", "-1", "", "1h", "9".repeat(30)]) {
      expect(usageOf("token", "--hub=a", "--user=b", `--ttl=${bad}`)).toStartWith("--ttl must be a whole number");
    }
  });

  test("takes no option's flag: it only reads the configuration", () => {
    expect(usageOf("token", "--listen-port", "1")).toStartWith("hubwire token has no flag --listen-port");
  });
});

test("version has three spellings, and send needs no understanding yet", () => {
  for (const word of ["version", "--version", "-v"]) expect(parseArgs([word])).toEqual({ name: "version" });
  expect(parseArgs(["send", "--hub", "chat", "hello"])).toEqual({ name: "send" });
});

describe("what cannot be understood", () => {
  for (const [argv, sentence] of [
    [["strat"], "there is no command `strat`; did you mean `start`? See hubwire --help."],
    [["fly"], "there is no command `fly`. See hubwire --help."],
    [
      ["start", "--lisen-port", "1"],
      "hubwire start has no flag --lisen-port; did you mean `--listen-port`? See hubwire start --help.",
    ],
    [
      ["start", "--port", "1"],
      "hubwire start has no flag --port; did you mean `--listen-port`? See hubwire start --help.",
    ],
    [["start", "--zzzzzzzz"], "hubwire start has no flag --zzzzzzzz. See hubwire start --help."],
    [["start", "--config"], "--config needs a value: --config FILE."],
    [["start", "--config", "--anonymous", "deny"], "--config needs a value: --config FILE."],
    [["start", "--anonymous"], "--anonymous needs a value: --anonymous allow|deny."],
    [["start", "--config=a", "--config=b"], "--config is given twice."],
    [["start", "SECRET"], "hubwire start takes flags only; what stands at place 1 is none."],
    [["version", "--x"], "hubwire version has no flag --x. See hubwire version --help."],
  ] as const) {
    test(`is refused with a sentence: ${argv.join(" ")}`, () => expect(usageOf(...argv)).toBe(sentence));
  }

  test("a value never stands in the sentence, since it may be a key", () => {
    expect(usageOf("start", "--acces-keys-primary=SECRET")).not.toContain("SECRET");
  });
});

describe("help", () => {
  test("names the commands", () => {
    for (const argv of [[], ["--help"], ["-h"], ["help"]])
      expect(helpOf(...argv)).toContain("token    print a client URL");
  });

  test("of a command names its flags, and those of every option where it takes them", () => {
    expect(helpOf("start", "--help")).toContain("--listen-port NUMBER");
    expect(helpOf("check", "-h")).toContain("--anonymous allow|deny");
    expect(helpOf("token", "--help")).toContain("--ttl SECONDS");
    expect(helpOf("token", "--help")).not.toContain("--listen-port");
  });
});
