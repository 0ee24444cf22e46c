import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigError } from "./faults.ts";
import { type ConfigSources, findConfigFile, loadConfig } from "./load.ts";

const folder = mkdtempSync(join(tmpdir(), "hubwire-load-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Writes a file into a folder of its own. */
function writeFile(name: string, text: string): string {
  const path = join(mkdtempSync(join(folder, "case-")), name);
  writeFileSync(path, text);
  return path;
}

function errorOf(sources: ConfigSources): ConfigError {
  try {
    loadConfig(sources);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error("the configuration has no fault");
}

/** Faults as one line each. */
function faultsOf(sources: ConfigSources): string[] {
  return errorOf(sources).faults.map(({ path, message, where }) => `${path}: ${message} (${where})`);
}

describe("precedence", () => {
  const filePath = writeFile("hubwire.yaml", "listen:\n  port: 1\n  host: file\n  reusePort: true\n");

  test("flags win over the environment, that over the file, that over the defaults", () => {
    const env = { HUBWIRE_LISTEN_PORT: "2", HUBWIRE_LISTEN_HOST: "env" };
    const portOf = (sources: ConfigSources) => loadConfig(sources).config.listen;
    expect(portOf({ filePath: null, env: {} })).toMatchObject({ port: 8080, host: "127.0.0.1", reusePort: false });
    expect(portOf({ filePath, env: {} })).toMatchObject({ port: 1, host: "file", reusePort: true });
    expect(portOf({ filePath, env })).toMatchObject({ port: 2, host: "env", reusePort: true });
    expect(portOf({ filePath, env, flags: { "listen-port": "3" } })).toMatchObject({
      port: 3,
      host: "env",
      reusePort: true,
    });
  });

  test("a value that is overridden has no say, even where it is wrong", () => {
    const wrong = writeFile("hubwire.yaml", "listen: {port: 99999}\n");
    expect(loadConfig({ filePath: wrong, env: { HUBWIRE_LISTEN_PORT: "1" } }).config.listen.port).toBe(1);
  });

  test("lists and maps are replaced whole, blocks are merged key by key", () => {
    const path = writeFile(
      "hubwire.yaml",
      "allowedOrigins: [https://a.example]\nhubs: {a: {}}\nlimits: {maxInboxBytes: 5}\n",
    );
    const env = {
      HUBWIRE_ALLOWED_ORIGINS: '["https://b.example"]',
      HUBWIRE_HUBS: '{"b":{"anonymous":"deny"}}',
      HUBWIRE_LIMITS: '{"maxConnections":7,"maxInboxMessages":7}',
      HUBWIRE_LIMITS_MAX_CONNECTIONS: "8",
    };
    const { config } = loadConfig({ filePath: path, env });
    expect(config.allowedOrigins).toEqual(["https://b.example"]);
    expect(Object.keys(config.hubs)).toEqual(["b"]);
    expect(config.limits).toMatchObject({ maxInboxBytes: 5, maxConnections: 8, maxInboxMessages: 7 });
  });

  test("the more exact name wins over its block, in any order of the variables", () => {
    const env = { HUBWIRE_LISTEN_PORT: "1", HUBWIRE_LISTEN: '{"port":2,"host":"h"}' };
    expect(loadConfig({ filePath: null, env }).config.listen).toMatchObject({ port: 1, host: "h" });
  });

  test("null takes a value back", () => {
    const path = writeFile("hubwire.yaml", "clientCertHeader: X-Cert\nlisten: {tls: {certFile: no, keyFile: no}}\n");
    const env = { HUBWIRE_CLIENT_CERT_HEADER: "null", HUBWIRE_LISTEN_TLS: "null" };
    const { config } = loadConfig({ filePath: path, env });
    expect([config.clientCertHeader, config.listen.tls]).toEqual([null, null]);
  });

  test("variables alone can open a block that the file leaves null", () => {
    const certificate = writeFile("c.pem", "x");
    const path = writeFile("hubwire.yaml", "listen: {tls: null}\n");
    const env = { HUBWIRE_LISTEN_TLS_CERT_FILE: certificate, HUBWIRE_LISTEN_TLS_KEY_FILE: certificate };
    expect(loadConfig({ filePath: path, env }).config.listen.tls).toMatchObject({
      certFile: certificate,
      clientCert: "none",
    });
  });

  test("upstreams of the environment take the place of a file's templates", () => {
    const path = writeFile("hubwire.yaml", "templates: [{urlTemplate: 'http://file/'}]\n");
    const given = (urlTemplate: string) => ({ HUBWIRE_UPSTREAMS: JSON.stringify([{ urlTemplate }]) });
    expect(loadConfig({ filePath: path, env: given("http://env/") }).config.upstreams).toHaveLength(1);
    expect(faultsOf({ filePath: path, env: given("x") })).toEqual([
      "upstreams[0].urlTemplate: must be an absolute URL that starts with http://, https:// (HUBWIRE_UPSTREAMS)",
    ]);
  });
});

describe("variables and flags", () => {
  const faults = (env: ConfigSources["env"]) => faultsOf({ filePath: null, env });

  test("an unknown one is refused with a suggestion", () => {
    expect(faults({ HUBWIRE_LISTEN_PROT: "1", HUBWIRE_PORT: "1", HUBWIRE_ZZZZ: "1", HUBWIRE_CONFIGG: "x" })).toEqual([
      "HUBWIRE_LISTEN_PROT: no such environment variable; did you mean `HUBWIRE_LISTEN_PORT`? (HUBWIRE_LISTEN_PROT)",
      "HUBWIRE_PORT: no such environment variable; did you mean `HUBWIRE_LISTEN_PORT`? (HUBWIRE_PORT)",
      "HUBWIRE_ZZZZ: no such environment variable (HUBWIRE_ZZZZ)",
      "HUBWIRE_CONFIGG: no such environment variable; did you mean `HUBWIRE_CONFIG`? (HUBWIRE_CONFIGG)",
    ]);
    expect(faultsOf({ filePath: null, env: {}, flags: { nope: "1" } })).toEqual(["--nope: no such flag (--nope)"]);
  });

  test("those of other uses are left alone", () => {
    const own = { HUBWIRE_CONNECTION_STRING: "x", HUBWIRE_LAUNCHER_PID: "1", HUBWIRE_PROCESS: "0" };
    const env = { ...own, HUBWIRE_TEST_ANYTHING: "x", HOME: "x" };
    expect(loadConfig({ filePath: null, env }).config.listen.port).toBe(8080);
  });

  test("an empty variable counts as not set, an empty flag does not", () => {
    expect(loadConfig({ filePath: null, env: { HUBWIRE_LISTEN_PORT: "" } }).config.listen.port).toBe(8080);
    expect(faultsOf({ filePath: null, env: {}, flags: { "data-dir": "" } })).toEqual([
      "dataDir: must not be empty (--data-dir)",
    ]);
  });

  test("texts must be what the option is", () => {
    const env = {
      HUBWIRE_LISTEN_PORT: "80a",
      HUBWIRE_LISTEN_REUSE_PORT: "yes",
      HUBWIRE_ANONYMOUS: "maybe",
      HUBWIRE_LIMITS_MAX_CONNECTIONS: "1.5",
      HUBWIRE_TRUSTED_PROXIES: "10.0.0.1",
      HUBWIRE_HUBS: "{",
      HUBWIRE_PUBLIC_URLS: "{}",
    };
    expect(faults(env).toSorted()).toEqual([
      "anonymous: must be allow or deny (HUBWIRE_ANONYMOUS)",
      "hubs: must be JSON: an object (HUBWIRE_HUBS)",
      "limits.maxConnections: must be a whole number (HUBWIRE_LIMITS_MAX_CONNECTIONS)",
      "listen.port: must be a number (HUBWIRE_LISTEN_PORT)",
      "listen.reusePort: must be true or false (HUBWIRE_LISTEN_REUSE_PORT)",
      "publicUrls: must be a list (HUBWIRE_PUBLIC_URLS)",
      "trustedProxies: must be JSON: a list (HUBWIRE_TRUSTED_PROXIES)",
    ]);
  });

  test("a text option takes what looks like a number, true or JSON unchanged", () => {
    const env = {
      HUBWIRE_ACCESS_KEYS_PRIMARY: "123",
      HUBWIRE_ACCESS_KEYS_SECONDARY: "true",
      HUBWIRE_LISTEN_HOST: "{}",
    };
    const { config } = loadConfig({ filePath: null, env });
    expect([config.accessKeys.primary, config.accessKeys.secondary, config.listen.host]).toEqual(["123", "true", "{}"]);
  });

  test("a flag is named as the source where both give a value", () => {
    const sources = { filePath: null, env: { HUBWIRE_LISTEN_PORT: "1" }, flags: { "listen-port": "99999" } };
    expect(faultsOf(sources)).toEqual(["listen.port: must be at most 65535 (--listen-port)"]);
  });
});

describe("the file", () => {
  test("is the named one, else HUBWIRE_CONFIG, else one in the folder, else none", () => {
    const named = writeFile("named.json", '{"listen":{"port":1}}');
    const byVariable = writeFile("variable.yaml", "listen: {port: 2}\n");
    const cwd = mkdtempSync(join(folder, "cwd-"));
    const env = { HUBWIRE_CONFIG: byVariable };
    expect(findConfigFile({}, cwd)).toBeNull();
    expect(loadConfig({ env: {}, cwd })).toMatchObject({ filePath: null, config: { listen: { port: 8080 } } });
    writeFileSync(join(cwd, "hubwire.json"), '{"listen":{"port":3}}');
    expect(loadConfig({ env: {}, cwd }).config.listen.port).toBe(3);
    writeFileSync(join(cwd, "hubwire.yaml"), "listen: {port: 4}\n");
    expect(loadConfig({ env: {}, cwd }).config.listen.port).toBe(4);
    expect(loadConfig({ env: { HUBWIRE_CONFIG: "" }, cwd }).config.listen.port).toBe(4);
    expect(loadConfig({ env, cwd }).config.listen.port).toBe(2);
    expect(loadConfig({ filePath: named, env, cwd })).toMatchObject({
      filePath: named,
      config: { listen: { port: 1 } },
    });
    expect(loadConfig({ filePath: null, env, cwd }).config.listen.port).toBe(8080);
  });

  test("a named one that is missing is a fault with a clear sentence", () => {
    expect(errorOf({ filePath: "no/such.yaml", env: {} }).message).toBe(
      "no/such.yaml has 1 fault:\n  the file does not exist",
    );
    expect(errorOf({ env: { HUBWIRE_CONFIG: "gone.yaml" }, cwd: folder }).message).toBe(
      `${join(folder, "gone.yaml")} has 1 fault:\n  the file does not exist`,
    );
  });

  test("may be empty", () => {
    expect(loadConfig({ filePath: writeFile("a.yaml", ""), env: {} }).config.listen.port).toBe(8080);
  });

  test("must be a block of keys", () => {
    expect(faultsOf({ filePath: writeFile("a.yaml", "- a\n"), env: {} })).toEqual([
      ": must be a block of keys (line 1, column 1)",
    ]);
  });

  test("with an alias inside its own anchor is refused", () => {
    const path = writeFile("a.yaml", "hubs: &a\n  chat: *a\n");
    expect(faultsOf({ filePath: path, env: {} })).toContain("hubs.chat.chat: is nested too deep (line 2, column 3)");
  });
});

describe("paths", () => {
  test("of the file start at its folder, those of variables and flags at the folder of the process", () => {
    const path = writeFile("hubwire.yaml", "dataDir: ./here\n");
    const base = join(path, "..");
    const cwd = mkdtempSync(join(folder, "cwd-"));
    const dataDirOf = (sources: ConfigSources) => loadConfig({ cwd, ...sources }).config.dataDir;
    expect(dataDirOf({ filePath: path, env: {} })).toBe(join(base, "here"));
    expect(dataDirOf({ filePath: writeFile("a.yaml", "dataDir: /abs\n"), env: {} })).toBe("/abs");
    expect(dataDirOf({ filePath: path, env: { HUBWIRE_DATA_DIR: "there" } })).toBe(join(cwd, "there"));
    expect(dataDirOf({ filePath: path, env: {}, flags: { "data-dir": "flag" } })).toBe(join(cwd, "flag"));
    expect(dataDirOf({ filePath: null, env: {} })).toBe(join(cwd, "data"));
    const silent = writeFile("hubwire.yaml", "");
    expect(dataDirOf({ filePath: silent, env: {} })).toBe(join(silent, "../data"));
  });

  test("of the data of an example lead to the user's data folder, unless something names another", () => {
    const filePath = join(import.meta.dir, "../../examples/chat/hubwire.yaml");
    const linked = join(mkdtempSync(join(folder, "link-")), "package");
    symlinkSync(join(import.meta.dir, "../.."), linked);
    const env = { HOME: "/home/ada", XDG_DATA_HOME: "/var/ada" };
    const dataDirOf = (sources: Partial<ConfigSources>) => loadConfig({ filePath, env, ...sources }).config.dataDir;
    expect(dataDirOf({})).toBe("/var/ada/hubwire/chat");
    expect(dataDirOf({ filePath: join(linked, "examples/chat/hubwire.yaml") })).toBe("/var/ada/hubwire/chat");
    expect(loadConfig({ env, cwd: join(filePath, "..") }).config.dataDir).toBe("/var/ada/hubwire/chat");
    for (const XDG_DATA_HOME of [undefined, "", "relative"]) {
      expect(dataDirOf({ env: { ...env, XDG_DATA_HOME } })).toBe("/home/ada/.local/share/hubwire/chat");
    }
    expect(dataDirOf({ env: { HOME: "" } })).toBe(join(homedir(), ".local/share/hubwire/chat"));
    expect(dataDirOf({ env: { ...env, HUBWIRE_DATA_DIR: "/elsewhere" } })).toBe("/elsewhere");
    expect(dataDirOf({ flags: { "data-dir": "/elsewhere" } })).toBe("/elsewhere");
  });

  const TLS = "listen: {tls: {certFile: c.pem, keyFile: k.pem, clientCaFile: ca.pem, clientCert: require}}\n";
  const UPSTREAM = "upstreams: [{urlTemplate: 'https://h/', tls: {caFile: ca.pem, certFile: c.pem, keyFile: k.pem}}]\n";

  test("of certificates and keys become absolute when the files are there", () => {
    const path = writeFile("hubwire.yaml", TLS + UPSTREAM);
    const base = join(path, "..");
    for (const name of ["c.pem", "k.pem", "ca.pem"]) writeFileSync(join(base, name), "x");
    const { config } = loadConfig({ filePath: path, env: {}, cwd: "/" });
    const files = { certFile: join(base, "c.pem"), keyFile: join(base, "k.pem") };
    expect(config.listen.tls).toMatchObject({ ...files, clientCaFile: join(base, "ca.pem") });
    expect(config.upstreams[0]?.tls).toEqual({ ...files, caFile: join(base, "ca.pem") });
  });

  test("of a cluster's files become absolute, and variables alone can name a cluster", () => {
    const path = writeFile("hubwire.yaml", "cluster: {nats: {servers: [h], credsFile: a.creds}}\n");
    const base = join(path, "..");
    for (const name of ["a.creds", "ca.pem"]) writeFileSync(join(base, name), "x");
    const env = { HUBWIRE_ACCESS_KEYS_PRIMARY: "k", HUBWIRE_CLUSTER_NATS_TLS_CA_FILE: "ca.pem" };
    const { config } = loadConfig({ filePath: path, env, cwd: base });
    expect(config.cluster?.nats).toMatchObject({
      credsFile: join(base, "a.creds"),
      tls: { caFile: join(base, "ca.pem"), certFile: null },
    });
    const servers = { HUBWIRE_ACCESS_KEYS_PRIMARY: "k", HUBWIRE_CLUSTER_NATS_SERVERS: '["a:1","tls://b"]' };
    expect(loadConfig({ filePath: null, env: servers }).config.cluster?.nats.servers).toEqual(["a:1", "tls://b"]);
  });

  test("of files that cannot be read are faults, each with its key, together with all others", () => {
    const path = writeFile("hubwire.yaml", `${TLS}${UPSTREAM}anonymous: 5\n`);
    mkdirSync(join(path, "../c.pem"));
    expect(faultsOf({ filePath: path, env: {} })).toEqual([
      "anonymous: must be allow or deny (line 3, column 1)",
      "listen.tls.certFile: it is not a regular file (line 1, column 16)",
      "listen.tls.keyFile: the file does not exist (line 1, column 33)",
      "listen.tls.clientCaFile: the file does not exist (line 1, column 49)",
      "upstreams[0].tls.caFile: the file does not exist (line 2, column 47)",
      "upstreams[0].tls.certFile: it is not a regular file (line 2, column 63)",
      "upstreams[0].tls.keyFile: the file does not exist (line 2, column 80)",
    ]);
  });
});

test("all faults of file, environment and flags are in one report, with their places and without a value", () => {
  const path = writeFile(
    "hubwire.yaml",
    [
      "listen:",
      "  port: SECRET1",
      "  hots: SECRET2",
      "accessKeys: {secondary: SECRET3}",
      "upstreams:",
      "  - urlTemplate: 'http://{hub}/?code=SECRET4'",
      "    auth: {type: SECRET5}",
      "  - urlTemplate: 'http://h/#SECRET6'",
      '    auth: {type: headers, headers: {A: "SECRET7\\n"}}',
      "publicUrls: [SECRET8]",
      "hubs: {chat: {anonymous: SECRET9}}",
      "cluster:",
      "  nats:",
      "    servers: ['nats://me:SECRET@h', 'SECRET:SECRET', 'SECRET://h']",
      "    password: SECRET",
      "    token: SECRET",
      "    credsFile: SECRET",
      "    subjectPrefix: SECRET.SECRET",
    ].join("\n"),
  );
  const env = {
    HUBWIRE_TRUSTED_PROXIES: "SECRET",
    HUBWIRE_DATADIR: "SECRET",
    HUBWIRE_CLIENT_CERT_HEADER: "SECRET SECRET",
  };
  const error = errorOf({ filePath: path, env, flags: { anonymous: "SECRET" } });
  expect(error.message).not.toContain("SECRET");
  expect(JSON.stringify(error.faults)).not.toContain("SECRET");
  expect(error.message.replace(path, "FILE")).toBe(
    [
      "FILE has 23 faults:",
      "  trustedProxies: must be JSON: a list (HUBWIRE_TRUSTED_PROXIES)",
      "  HUBWIRE_DATADIR: no such environment variable; did you mean `HUBWIRE_DATA_DIR`?",
      "  clientCertHeader: needs trustedProxies: only trusted proxies may set this header (HUBWIRE_CLIENT_CERT_HEADER)",
      "  accessKeys.secondary: needs accessKeys.primary too (line 4, column 14)",
      "  cluster.nats.user: is required when password is given (line 13, column 3)",
      "  cluster.nats.token: cannot be combined with password: choose one way to log in (line 16, column 5)",
      "  cluster.nats.credsFile: cannot be combined with password: choose one way to log in (line 17, column 5)",
      "  accessKeys.primary: is required in a cluster: every node needs the same key (line 4, column 1)",
      "  listen.port: must be a number (line 2, column 3)",
      "  listen.hots: no such key; did you mean `host`? (line 3, column 3)",
      "  publicUrls[0]: must be an absolute URL that starts with http://, https://, ws://, wss:// (line 10, column 14)",
      "  clientCertHeader: must be a header's name (HUBWIRE_CLIENT_CERT_HEADER)",
      "  anonymous: must be allow or deny (--anonymous)",
      "  hubs.chat.anonymous: must be allow or deny (line 11, column 15)",
      "  upstreams[0].urlTemplate: a parameter is allowed in the path and the query only, not in the scheme, user name, host or port (line 6, column 5)",
      "  upstreams[0].auth.type: must be none, headers, oauth2 or managedIdentity (line 7, column 12)",
      "  upstreams[1].urlTemplate: must not contain a fragment (#) (line 8, column 5)",
      "  upstreams[1].auth.headers.A: must not contain CR, LF or other control characters (line 9, column 37)",
      "  cluster.nats.servers[0]: must not contain a user name, password or token: there are options for them (line 14, column 15)",
      "  cluster.nats.servers[1]: must be a host name, an IPv4 address or an IPv6 address in brackets, with or without a port, and nothing after it (line 14, column 37)",
      "  cluster.nats.servers[2]: must be `host`, `host:port`, or one of these after nats:// or tls:// (line 14, column 54)",
      "  cluster.nats.subjectPrefix: must be 1 to 64 of A-Z a-z 0-9 _ - (line 18, column 5)",
      "  cluster.nats.credsFile: the file does not exist (line 17, column 5)",
    ].join("\n"),
  );
});

describe("warnings", () => {
  const warningsOf = (text: string) => loadConfig({ filePath: writeFile("a.yaml", text), env: {} }).warnings;
  const QUIET = "publicUrls: [https://h]\nupstreams: [{urlTemplate: 'http://h/'}]\n";

  test("a configuration without a weakness has no warnings", () => expect(warningsOf(QUIET)).toEqual([]));

  test("say that tokens are checked against the request's Host, and that no backend is named", () => {
    expect(warningsOf("")).toEqual([
      expect.stringContaining("publicUrls is empty"),
      expect.stringContaining("upstreams is empty"),
    ]);
  });

  test("say that a key is short from 31 bytes down, not at 32, and never show it", () => {
    const keys = (primary: string, secondary: string) =>
      `${QUIET}accessKeys: {primary: "${primary}", secondary: "${secondary}"}\n`;
    expect(warningsOf(keys("k".repeat(32), "é".repeat(16)))).toEqual([]);
    const short = warningsOf(keys("k".repeat(31), "shortkey"));
    expect(short).toHaveLength(2);
    expect(short.join()).not.toMatch(/kkk|shortkey/);
  });

  test("say that an outbox does not hold a message of the longest", () => {
    const limits = (outbox: number, message: number, response: number) =>
      warningsOf(
        `${QUIET}\nlimits: {maxOutboxBytes: ${outbox}, maxMessageBytes: ${message}, maxResponseBytes: ${response}}\n`,
      );
    const told = (name: string) =>
      `limits.maxOutboxBytes is less than limits.${name}: a single message can close a client that reads as it should`;
    expect(limits(1000, 1000, 1000)).toEqual([]);
    expect(limits(1000, 1001, 1000)).toEqual([told("maxMessageBytes")]);
    expect(limits(1000, 1000, 1001)).toEqual([told("maxResponseBytes")]);
    expect(limits(999, 1000, 1000)).toEqual([told("maxMessageBytes"), told("maxResponseBytes")]);
  });

  test("say that TLS files are not used by an http template", () => {
    const ca = writeFile("ca.pem", "x");
    expect(
      warningsOf(`publicUrls: [https://h]\nupstreams: [{urlTemplate: 'http://h/', tls: {caFile: ${ca}}}]\n`),
    ).toEqual(["upstreams[0].tls is not used: its urlTemplate is http, not https"]);
  });
});
