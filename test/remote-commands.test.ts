import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeCertificates } from "./support/certificates.ts";
import { COMMANDS_TIMEOUT_MS, findFreePort, REPOSITORY } from "./support/command.ts";
import { KEYS } from "./support/gateway.ts";
import { needs } from "./support/programs.ts";
import { got, type Member, RestStage } from "./support/rest-stage.ts";
import { connectionIdOf } from "./support/stack.ts";

setDefaultTimeout(COMMANDS_TIMEOUT_MS);

const LAUNCHER = join(REPOSITORY, "bin", "hubwire.mjs");

let folder: string;
let stage: RestStage;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-remote-"));
  stage = await RestStage.start({ config: { limits: { maxMessageBytes: 1000 } } });
});
afterAll(async () => {
  await stage.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const SILENT: Ended = { code: 0, stdout: "", stderr: "" };

function connectionString(key: string = KEYS.primary, port = stage.port): string {
  return `Endpoint=http://127.0.0.1:${port};AccessKey=${key};Version=1.0;`;
}

/** Runs a command in an empty folder. No output ever has a key. */
async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(hubwire_|(no|https?)_proxy$)/i.test(name));
  const child = Bun.spawn(["node", LAUNCHER, ...args], {
    cwd: folder,
    env: { ...Object.fromEntries(inherited), ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  for (const key of [...Object.values(KEYS), "wrong-key"]) expect(stdout + stderr).not.toContain(key);
  return { code, stdout, stderr };
}

/** Runs a command with the stage's connection string in the environment. */
async function hubwire(...args: string[]): Promise<Ended> {
  return await run(args, { HUBWIRE_CONNECTION_STRING: connectionString() });
}

describe("hubwire send", () => {
  let ann: Member;
  let bob: Member;
  beforeAll(async () => {
    ann = await stage.member({ user: "ann/b?c#%41 &+", groups: ["red"] });
    bob = await stage.member({ user: "bob", groups: ["red/../blue"] });
  });

  const targets: readonly (readonly [string, () => readonly string[], string])[] = [
    ["the hub", () => [], "both"],
    ["a user whose name needs escapes", () => ["--user", "ann/b?c#%41 &+"], "ann"],
    ["a group whose name looks like a path", () => ["--group", "red/../blue"], "bob"],
    ["a connection", () => [`--connection=${bob.connectionId}`], "bob"],
    ["nobody", () => ["--user", "nobody"], "none"],
  ];
  for (const [whom, flags, reached] of targets) {
    test(`reaches ${whom} and nobody else, prints nothing and exits with 0`, async () => {
      const text = "grüß dich \u{1f600}\n";
      expect(await hubwire("send", "--hub", "chat", ...flags(), text)).toEqual(SILENT);
      const message = [got("text", text)];
      expect(await stage.received("chat", ann, bob)).toEqual([
        reached === "ann" || reached === "both" ? message : [],
        reached === "bob" || reached === "both" ? message : [],
      ]);
    });
  }

  test("sends binary messages and empty ones", async () => {
    expect(await hubwire("send", "--hub", "chat", "--user", "bob", "--binary", "grüß")).toEqual(SILENT);
    expect(await hubwire("send", "--hub", "CHAT", "--user", "bob", "")).toEqual(SILENT);
    expect(await stage.received("chat", bob)).toEqual([[got("binary", "grüß"), got("text", "")]]);
  });

  test("reaches the hub of clients that named none", async () => {
    const nameless = await stage.member({ hub: "_default" });
    expect(await hubwire("send", "--hub", "_default", "hello")).toEqual(SILENT);
    expect(await stage.received("_default", nameless)).toEqual([[got("text", "hello")]]);
  });

  test("says what the gateway says of a message that is too big, and exits with 1", async () => {
    const { code, stdout, stderr } = await hubwire("send", "--hub", "chat", "x".repeat(1001));
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^hubwire: http:\/\/127\.0\.0\.1:\d+ answered 413, message_too_big: .*1000.*\n$/);
  });
});

describe("hubwire exists", () => {
  test("says yes with exit code 0, no with 1", async () => {
    const member = await stage.member({ user: "eve", groups: ["green"] });
    const asked = async (...flags: string[]) => await hubwire("exists", "--hub", "chat", ...flags);
    for (const flags of [["--user=eve"], ["--group=green"], [`--connection=${member.connectionId}`]]) {
      expect([flags, await asked(...flags)]).toEqual([flags, { code: 0, stdout: "yes\n", stderr: "" }]);
    }
    for (const flags of [["--user=Eve"], ["--group=Green"], ["--connection=AAAAAAAAAAAAAAAAAAAAAA"]]) {
      expect([flags, await asked(...flags)]).toEqual([flags, { code: 1, stdout: "no\n", stderr: "" }]);
    }
  });
});

describe("hubwire close", () => {
  test("closes the connection with the reason", async () => {
    const { client, connectionId } = await stage.member();
    expect(
      await hubwire("close", "--hub", "chat", `--connection=${connectionId}`, "--reason", "grüß dich & so long"),
    ).toEqual(SILENT);
    expect(await client.closed()).toEqual({ code: 1000, reason: "grüß dich & so long" });
  });

  test("needs no reason", async () => {
    const { client, connectionId } = await stage.member();
    expect(await hubwire("close", "--hub", "chat", `--connection=${connectionId}`)).toEqual(SILENT);
    expect(await client.closed()).toEqual({ code: 1000, reason: "" });
  });
});

describe("which gateway is called", () => {
  const ask = ["exists", "--hub", "chat", "--user", "nobody"];
  const NO: Ended = { code: 1, stdout: "no\n", stderr: "" };

  function writeConfig(name: string, config: unknown): string {
    writeFileSync(join(folder, name), JSON.stringify(config));
    return name;
  }

  test("--connection-string says it, over the environment", async () => {
    const env = { HUBWIRE_CONNECTION_STRING: "nonsense" };
    expect(await run([...ask, "--connection-string", connectionString()], env)).toEqual(NO);
  });

  test("the secondary key is as good as the primary", async () => {
    expect(await run(ask, { HUBWIRE_CONNECTION_STRING: connectionString(KEYS.secondary) })).toEqual(NO);
  });

  test("a configuration says it, over the environment where it is named", async () => {
    const file = writeConfig("given.json", { listen: { port: stage.port }, accessKeys: KEYS });
    expect(await run([...ask, "--config", file], { HUBWIRE_CONNECTION_STRING: "nonsense" })).toEqual(NO);
  });

  test("the key that the gateway has made for itself is found in dataDir", async () => {
    const dataDir = join(folder, "kept");
    mkdirSync(dataDir);
    writeFileSync(join(dataDir, "access-key"), `${KEYS.primary}\n`, { mode: 0o600 });
    const file = writeConfig("kept.json", { listen: { port: stage.port }, dataDir });
    expect(await run([...ask, "--config", file])).toEqual(NO);
  });

  test("without any, it says so, exits with 2, and makes no key", async () => {
    const { code, stdout, stderr } = await run(ask);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain("HUBWIRE_CONNECTION_STRING");
    expect(existsSync(join(folder, "data"))).toBe(false);
  });

  test("a bad connection string is told by its source, without its text, and exits with 2", async () => {
    const bad = `Endpoint=http://127.0.0.1;AcessKey=${KEYS.primary}`;
    const sentence = "has an unknown name in field 2: use Endpoint, AccessKey, Version, Port.\n";
    expect(await run(ask, { HUBWIRE_CONNECTION_STRING: bad })).toEqual({
      code: 2,
      stdout: "",
      stderr: `HUBWIRE_CONNECTION_STRING ${sentence}`,
    });
    expect(await run([...ask, "--connection-string", bad])).toMatchObject({
      stderr: `--connection-string ${sentence}`,
    });
  });

  test("a proxy that is meant for other machines is not asked about this one", async () => {
    const proxy = `http://127.0.0.1:${await findFreePort()}`;
    const env = { HUBWIRE_CONNECTION_STRING: connectionString(), HTTP_PROXY: proxy, http_proxy: proxy };
    expect(await run(ask, env)).toEqual(NO);
  });
});

describe("with listen.api", () => {
  const API = { host: "127.0.0.1", port: 0, api: { port: 0 } };
  const exists = ["exists", "--hub", "chat", "--user", "ann"];
  const YES: Ended = { code: 0, stdout: "yes\n", stderr: "" };

  /** Starts a gateway, and writes the file that describes it: its ports, and what else it was given. */
  async function startDescribed(
    config: Readonly<Record<string, unknown>>,
  ): Promise<{ apart: RestStage; file: string }> {
    const apart = await RestStage.start({ config: { listen: API, ...config } });
    const listen = { ...API, ...(config["listen"] ?? {}), port: apart.port };
    const api = { ...listen.api, port: apart.apiPort };
    const file = join(folder, "apart.json");
    writeFileSync(file, JSON.stringify({ ...config, listen: { ...listen, api }, accessKeys: KEYS }));
    return { apart, file };
  }

  const PUBLIC_URLS: readonly (readonly [string, readonly string[]])[] = [
    ["no public URL is given", []],
    ["publicUrls names other hosts only", ["wss://clients.example"]],
  ];
  test.each(PUBLIC_URLS)(
    "the configuration leads send, exists and close to its address where %s",
    async (_what, publicUrls) => {
      const { apart, file } = await startDescribed({ publicUrls });
      await using _ = apart;
      const { client, connect } = await apart.stack.connect({ path: "/client/hubs/chat?user=ann" });
      const id = connectionIdOf(connect);
      expect(await run([...exists, "--config", file])).toEqual(YES);
      expect(await run(["send", "--hub", "chat", "--config", file, "hello"])).toEqual(SILENT);
      expect(await client.nextText()).toBe("hello");
      expect(await run(["close", "--hub", "chat", `--connection=${id}`, "--config", file])).toEqual(SILENT);
      expect((await client.closed()).code).toBe(1000);
    },
  );

  test("a connection string that names it works, and one of the clients' listener is told that nothing is there", async () => {
    await using apart = await RestStage.start({ config: { listen: API } });
    await apart.member({ user: "ann" });
    const ask = (port: number) => run([...exists, "--connection-string", connectionString(KEYS.primary, port)]);
    expect(await ask(apart.apiPort)).toEqual(YES);
    const { code, stderr } = await ask(apart.port);
    expect([code, stderr]).toEqual([1, expect.stringContaining("answered 404, not_found")]);
  });

  needs("openssl").test("over TLS, the certificate of the public name is good at its address", async () => {
    const made = makeCertificates();
    const { certFile, keyFile } = made.server;
    // Its certificate names 127.0.0.1 and localhost, not this address.
    const listen = { ...API, tls: { certFile, keyFile }, api: { host: "127.0.0.2", port: 0 } };
    const { apart, file } = await startDescribed({ listen, publicUrls: ["https://localhost"] });
    await using _ = apart;
    const env = { NODE_EXTRA_CA_CERTS: made.authority.certFile };
    expect(await run([...exists, "--config", file], env)).toEqual({ code: 1, stdout: "no\n", stderr: "" });
    made.remove();
  });

  test("a port that the system chooses is not known: the command says so, and exits with 2", async () => {
    const file = join(folder, "free.json");
    writeFileSync(file, JSON.stringify({ listen: API, accessKeys: KEYS, publicUrls: ["https://a.example"] }));
    const { code, stderr } = await run([...exists, "--config", file]);
    expect([code, stderr]).toEqual([2, expect.stringContaining("listen.api.port is 0")]);
  });
});

describe("what goes wrong at the other end exits with 1 and a sentence", () => {
  const send = ["send", "--hub", "chat", "hello"];

  test("a wrong key", async () => {
    const { code, stderr } = await run(send, { HUBWIRE_CONNECTION_STRING: connectionString("wrong-key") });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^hubwire: http:\/\/127\.0\.0\.1:\d+ answered 401, token_signature: .+\n$/);
  });

  test("nobody listens", async () => {
    const port = await findFreePort();
    const { code, stderr } = await run(send, { HUBWIRE_CONNECTION_STRING: connectionString(KEYS.primary, port) });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^hubwire: no answer from http:\/\/127\.0\.0\.1:\d+: \w+\n$/);
  });

  for (const [what, respond, said] of [
    [
      "a redirect, which is not followed",
      () => Response.redirect("http://127.0.0.1:1/", 307),
      "answered 307, the answer does not",
    ],
    [
      "another server's 404, also to exists",
      () => new Response("no", { status: 404 }),
      "answered 404, the answer does not",
    ],
    [
      "a sentence that would steer the terminal",
      () => Response.json({ code: "a\u001b[2J", message: "b\r\nc" }, { status: 404 }),
      "answered 404, a [2J: b  c\n",
    ],
  ] as const) {
    test(what, async () => {
      using server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: respond });
      const env = { HUBWIRE_CONNECTION_STRING: connectionString(KEYS.primary, Number(server.port)) };
      for (const args of [send, ["exists", "--hub", "chat", "--user", "ann"]]) {
        const { code, stdout, stderr } = await run(args, env);
        expect([code, stdout]).toEqual([1, ""]);
        expect(stderr).toContain(said);
      }
    });
  }
});
