import { describe, expect, test } from "bun:test";
import { type Command, parseArgs, UsageError } from "./args.ts";

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
    expect(parseArgs(["start"])).toEqual({
      name: "start",
      configFile: null,
      example: null,
      processes: null,
      flags: {},
    });
  });

  test("take a file and every option's flag, in both forms", () => {
    const argv = ["--config", "a.yaml", "--listen-port=9000", "--data-dir", "/tmp/x", "--limits-max-connections", "5"];
    const flags = { "listen-port": "9000", "data-dir": "/tmp/x", "limits-max-connections": "5" };
    const start = { name: "start", configFile: "a.yaml", example: null, processes: null, flags };
    expect(parseArgs(["start", ...argv])).toEqual(start as Command);
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

describe("--processes", () => {
  test("is a number from 1 to 256", () => {
    for (const count of [1, 256]) {
      expect(parseArgs(["start", "--processes", String(count)])).toMatchObject({ processes: count, flags: {} });
    }
    for (const bad of ["0", "257", "-1", "1.5", "four", "", "1e2"]) {
      expect(usageOf("start", `--processes=${bad}`)).toBe("--processes must be a whole number from 1 to 256.");
    }
  });

  test("runs no example, but a file behind npm start", () => {
    const words = ["start", "--example", "chat", "--processes", "2"];
    expect(usageOf(...words)).toBe("--processes cannot run an example: give --config, or leave out --example.");
    expect(parseArgs([...words, "--config", "a.yaml"])).toMatchObject({ example: null, processes: 2 });
  });

  test("is a flag of start alone", () => {
    expect(usageOf("check", "--processes", "2")).toContain("hubwire check has no flag --processes");
  });
});

describe("token", () => {
  test("takes hub and user, and an hour when no time is given", () => {
    expect(parseArgs(["token", "--hub", "chat", "--user", "ann"])).toEqual({
      name: "token",
      configFile: null,
      hub: "chat",
      path: null,
      user: "ann",
      ttlSeconds: 3600,
    });
    expect(parseArgs(["token", "--hub=a", "--user=b", "--ttl", "60", "--config", "c.yaml"])).toMatchObject({
      ttlSeconds: 60,
      configFile: "c.yaml",
    });
  });

  test("takes a path in place of the hub", () => {
    expect(parseArgs(["token", "--path", "/ocpp/CP1", "--user", "ann"])).toMatchObject({
      hub: null,
      path: "/ocpp/CP1",
    });
    expect(usageOf("token", "--path", "/a", "--hub", "chat", "--user", "ann")).toBe(
      "--hub and --path cannot be combined.",
    );
    expect(usageOf("token", "--path=", "--user", "ann")).toBe("hubwire token needs --path. See hubwire token --help.");
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

describe("send, exists and close", () => {
  const gateway = { connectionString: null, configFile: null };

  test("send goes to the hub, or to whom a flag names", () => {
    expect(parseArgs(["send", "--hub", "chat", "hello"])).toEqual({
      name: "send",
      gateway,
      target: { kind: "hub", hub: "chat" },
      text: "hello",
      binary: false,
    });
    for (const kind of ["user", "group", "connection"] as const) {
      expect(parseArgs(["send", "hello", "--hub=_default", `--${kind}`, "ann"])).toMatchObject({
        target: { kind, hub: "_default", name: "ann" },
      });
    }
  });

  test("send takes any text: empty, with an equals sign, and behind -- one that looks like a flag", () => {
    for (const [words, text] of [
      [[""], ""],
      [["a=b"], "a=b"],
      [["-"], "-"],
      [["--", "--help"], "--help"],
      [["--", "--"], "--"],
    ] as const) {
      expect(parseArgs(["send", "--hub", "chat", ...words])).toMatchObject({ name: "send", text });
    }
  });

  test("--binary takes no word away from the text", () => {
    for (const argv of [
      ["--binary", "true"],
      ["true", "--binary"],
    ]) {
      expect(parseArgs(["send", "--hub", "chat", ...argv])).toMatchObject({ text: "true", binary: true });
    }
  });

  test("exists asks for a user, a group or a connection", () => {
    expect(parseArgs(["exists", "--hub", "chat", "--group", "red"])).toEqual({
      name: "exists",
      gateway,
      target: { kind: "group", hub: "chat", name: "red" },
    });
  });

  test("close names a connection and may say why", () => {
    const target = { kind: "connection", hub: "chat", name: "--abc" } as const;
    const argv = ["close", "--hub", "chat", "--connection=--abc"];
    expect(parseArgs(argv)).toEqual({ name: "close", gateway, target, reason: null });
    expect(parseArgs([...argv, "--reason", "so long"])).toMatchObject({ reason: "so long" });
  });

  test("all say which gateway", () => {
    const flags = ["--connection-string", "Endpoint=http://a;AccessKey=k", "--config=b.yaml"];
    for (const argv of [
      ["send", "--hub=a", "text"],
      ["exists", "--hub=a", "--user=b"],
      ["close", "--hub=a", "--connection=c"],
    ]) {
      expect(parseArgs([...argv, ...flags])).toMatchObject({
        gateway: { connectionString: "Endpoint=http://a;AccessKey=k", configFile: "b.yaml" },
      });
    }
  });
});

describe("dead-letters", () => {
  const where = { configFile: null, flags: {} };

  test("list takes columns or JSON, and says which process", () => {
    expect(parseArgs(["dead-letters", "list"])).toEqual({ name: "dead-letters list", ...where, asJson: false });
    expect(parseArgs(["dead-letters", "list", "--json", "--config", "a.yaml", "--data-dir=b"])).toEqual({
      name: "dead-letters list",
      configFile: "a.yaml",
      flags: { "data-dir": "b" },
      asJson: true,
    });
  });

  for (const name of ["retry", "drop"] as const) {
    test(`${name} takes ids, each once, or --all`, () => {
      const parsed = (...words: string[]) => parseArgs(["dead-letters", name, ...words]);
      expect(parsed("one")).toEqual({ name: `dead-letters ${name}`, ...where, connectionIds: ["one"] });
      expect(parsed("one", "-two", "--config=a", "one", "--", "--three", "--all")).toMatchObject({
        configFile: "a",
        connectionIds: ["one", "-two", "--three", "--all"],
      });
      expect(parsed("--all")).toEqual({ name: `dead-letters ${name}`, ...where, connectionIds: null });
    });

    test(`${name} never takes nothing for all`, () => {
      const sentence = `hubwire dead-letters ${name} needs connection IDs, or --all. See hubwire dead-letters ${name} --help.`;
      expect(usageOf("dead-letters", name)).toBe(sentence);
      expect(usageOf("dead-letters", name, "--")).toBe(sentence);
      // What `$ID` becomes where it is not set.
      expect(parseArgs(["dead-letters", name, ""])).toMatchObject({ connectionIds: [""] });
      expect(usageOf("dead-letters", name, "one", "--all")).toBe(
        `hubwire dead-letters ${name} takes IDs or --all, not both.`,
      );
    });
  }

  test("the group alone, and its help, list its commands only", () => {
    for (const argv of [["dead-letters"], ["dead-letters", "--help"], ["dead-letters", "-h"]]) {
      const text = helpOf(...argv);
      expect(text).toStartWith("usage: hubwire dead-letters COMMAND [FLAGS]\n");
      for (const name of ["list", "retry", "drop"]) expect(text).toContain(`\n  dead-letters ${name}`);
      expect(text).not.toContain("send a message");
    }
  });

  test("its commands' help says how ids are written", () => {
    expect(helpOf("dead-letters", "retry", "--help")).toStartWith("usage: hubwire dead-letters retry [FLAGS] [ID…]\n");
    expect(helpOf("dead-letters", "list", "one", "-h")).toStartWith("usage: hubwire dead-letters list [FLAGS]\n");
    expect(helpOf("send", "--help")).toStartWith("usage: hubwire send [FLAGS] TEXT\n");
    expect(helpOf("--help")).toContain("\n  dead-letters list");
  });
});

test("version has three spellings", () => {
  for (const word of ["version", "--version", "-v"]) expect(parseArgs([word])).toEqual({ name: "version" });
});

describe("what cannot be understood", () => {
  for (const [argv, sentence] of [
    [["strat"], "there is no command `strat`; did you mean `start`? See hubwire --help."],
    [["dead-leters"], "there is no command `dead-leters`; did you mean `dead-letters`? See hubwire --help."],
    [["retry"], "there is no command `retry`; did you mean `dead-letters retry`? See hubwire --help."],
    [
      ["dead-letters", "lst"],
      "there is no command `dead-letters lst`; did you mean `dead-letters list`? See hubwire dead-letters --help.",
    ],
    [["dead-letters", "--all"], "there is no command `dead-letters --all`. See hubwire dead-letters --help."],
    [["dead-letters", "list", "x"], "hubwire dead-letters list takes flags only; argument 1 is not a flag."],
    [
      ["dead-letters", "drop", "--al"],
      "hubwire dead-letters drop has no flag --al; did you mean `--all`? See hubwire dead-letters drop --help.",
    ],
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
    [["start", "SECRET"], "hubwire start takes flags only; argument 1 is not a flag."],
    [["start", "--", "x"], "hubwire start takes flags only; argument 1 is not a flag."],
    [["send", "SECRET"], "hubwire send needs --hub. See hubwire send --help."],
    [["send", "--hub", "chat"], "hubwire send needs a TEXT. See hubwire send --help."],
    [["send", "--hub", "chat", "--binary"], "hubwire send needs a TEXT. See hubwire send --help."],
    [["send", "--hub", "a", "two", "words"], "hubwire send takes one TEXT: put it in quotes if it has spaces."],
    [["send", "--hub", "a", "--binary=true", "x"], "--binary does not take a value."],
    [["send", "--hub", "a", "--binary", "--binary", "x"], "--binary is given twice."],
    [["send", "--hub", "a", "--user=b", "--group=c", "x"], "--user and --group cannot be combined."],
    [["send", "--hub", "a", "--user=", "x"], "hubwire send needs --user. See hubwire send --help."],
    [
      ["send", "--hub", "a", "--grup=c", "x"],
      "hubwire send has no flag --grup; did you mean `--group`? See hubwire send --help.",
    ],
    [["exists", "--hub", "a"], "hubwire exists needs --user, --group or --connection. See hubwire exists --help."],
    [["exists", "--hub", "a", "--user", "b", "c"], "hubwire exists takes flags only; argument 5 is not a flag."],
    [["close", "--hub", "a"], "hubwire close needs --connection. See hubwire close --help."],
    [["close", "--hub", "a", "--user", "b"], "hubwire close has no flag --user. See hubwire close --help."],
    [["version", "--x"], "hubwire version has no flag --x. See hubwire version --help."],
  ] as const) {
    test(`is refused with a sentence: ${argv.join(" ")}`, () => expect(usageOf(...argv)).toBe(sentence));
  }

  for (const [flag, sentence, argv] of [
    ["hub", "--hub must be _default", ["send", "--hub", "no hub", "x"]],
    ["hub", "--hub must be _default", ["token", "--hub", "_other", "--user", "ann"]],
    ["user", "--user must be 1 to 512 bytes", ["token", "--hub", "a", "--user", " ann"]],
    ["user", "--user must be 1 to 512 bytes", ["send", "--hub", "a", "--user", "..", "x"]],
    ["group", "--group must be 1 to 512 bytes", ["exists", "--hub", "a", "--group", "x".repeat(513)]],
    ["connection", "--connection must be 1 to 512 bytes", ["close", "--hub", "a", "--connection", "."]],
  ] as const) {
    test(`a ${flag} that cannot be one is refused before anything is called: ${argv[0]}`, () => {
      expect(usageOf(...argv)).toStartWith(sentence);
    });
  }

  test("the sentence never holds a value, since it may be a key", () => {
    expect(usageOf("start", "--acces-keys-primary=SECRET")).not.toContain("SECRET");
  });
});

describe("help", () => {
  test("names the commands", () => {
    for (const argv of [[], ["--help"], ["-h"], ["help"]])
      expect(helpOf(...argv)).toMatch(/\n {2}token +print a client URL/);
  });

  test("of a command names its flags, and those of every option where it takes them", () => {
    expect(helpOf("start", "--help")).toContain("--listen-port NUMBER");
    expect(helpOf("check", "-h")).toContain("--anonymous allow|deny");
    expect(helpOf("token", "--help")).toContain("--ttl SECONDS");
    expect(helpOf("token", "--help")).not.toContain("--listen-port");
    expect(helpOf("send", "--help")).toStartWith("usage: hubwire send [FLAGS] TEXT\n");
    expect(helpOf("send", "--help")).toContain("  --binary\n");
    expect(helpOf("send", "--hub", "chat", "-h")).toContain("--connection-string TEXT");
  });
});
