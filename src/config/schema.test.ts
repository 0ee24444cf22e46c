import { describe, expect, test } from "bun:test";
import { ConfigError, type Fault } from "./faults.ts";
import { parseConfig } from "./load.ts";
import { hasTwin, listOptions, type Option } from "./options.ts";

function faultsOf(raw: unknown): readonly Fault[] {
  try {
    parseConfig(raw);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
}

/** A tree in which only one option is given; entries of `upstreams` and a cluster get what they need besides. */
function treeOf(option: Option, value: unknown): unknown {
  const tree = option.path.reduceRight<unknown>((inner, key) => (key === "[]" ? [inner] : { [key]: inner }), value);
  if (option.path[0] === "cluster") {
    const { nats } = (tree as { cluster: { nats: object } }).cluster;
    return { accessKeys: { primary: "k" }, cluster: { nats: { servers: ["h"], ...nats } } };
  }
  if (option.path[0] === "paths" && option.path.length > 1) {
    const [item] = (tree as { paths: readonly object[] }).paths;
    return { paths: [{ pattern: "/a", hub: "h", ...item }] };
  }
  if (option.path[0] !== "upstreams") return tree;
  const [entry] = (tree as { upstreams: readonly object[] }).upstreams;
  return { upstreams: [{ urlTemplate: "http://h/", ...entry }] };
}

test("an empty configuration has the documented defaults", () => {
  expect(parseConfig({})).toEqual({
    listen: { host: "127.0.0.1", port: 8080, reusePort: false, keepAliveMs: 75_000, tls: null, api: null },
    publicUrls: [],
    hubSpellings: {},
    accessKeys: { primary: null, secondary: null },
    dataDir: "./data",
    trustedProxies: [],
    clientCertHeader: null,
    anonymous: "allow",
    allowedOrigins: ["*"],
    paths: [],
    hubs: {},
    upstreams: [],
    allowedUpstreamHosts: ["*"],
    websocket: { compression: false, pingAfterMs: 20000, pongTimeoutMs: 8000 },
    limits: {
      maxConnections: 50000,
      maxPendingUpgrades: 1024,
      maxPendingUpgradesPerAddress: null,
      maxMessageBytes: 1048576,
      maxResponseBytes: 1048576,
      maxInboxMessages: 128,
      maxInboxBytes: 4194304,
      inboxPauseTimeoutMs: 30000,
      inboxDrainTimeoutMs: 30000,
      maxOutboxBytes: 16777216,
      outboxStallTimeoutMs: 30000,
      maxBufferedBytes: 268435456,
      maxGroupsPerConnection: 1024,
      connectsPerSecondPerAddress: 0,
      maxLogBufferBytes: 1_048_576,
      messagesPerSecond: 0,
      bytesPerSecond: 0,
      controlFramesPerSecond: 50,
    },
    disconnect: { retryForSeconds: 86400, retryRefusedForSeconds: 300, maxPerSecond: 500 },
    journal: { synchronous: "normal" },
    shutdown: { delayMs: 0, spreadMs: 5000, drainTimeoutMs: 15000 },
    cluster: null,
  });
});

test("an upstream with nothing but its template has the documented defaults", () => {
  expect(parseConfig({ upstreams: [{ urlTemplate: "http://localhost:7071/{hub}/api/{event}" }] }).upstreams).toEqual([
    {
      hubPattern: "*",
      categoryPattern: "*",
      eventPattern: "*",
      urlTemplate: "http://localhost:7071/{hub}/api/{event}",
      dialect: "asrs",
      connectEventName: "handshake",
      timeoutMs: 30000,
      onMessageFailure: "close",
      repeatOnStaleSocket: true,
      keepAliveMs: 4000,
      maxIdleSockets: null,
      maxConcurrency: 1024,
      maxConcurrencyPerAddress: null,
      maxWaitMs: 5000,
      breaker: { failureRatio: 0.5, minCalls: 20, windowMs: 10000 },
      auth: { type: "none" },
      forwardHeaders: [],
      passResponseHeaders: [],
      tls: { caFile: null, certFile: null, keyFile: null },
    },
  ]);
});

test("a configuration cannot be changed, all the way down", () => {
  const config = parseConfig({ upstreams: [{ urlTemplate: "http://h/", hubPattern: ["a"] }], hubs: { a: {} } });
  const parts = [
    config,
    config.listen,
    config.upstreams,
    config.upstreams[0]?.hubPattern,
    config.hubs,
    config.hubs["a"],
  ];
  for (const part of [...parts, config.hubs["a"]?.allowedOrigins]) expect(Object.isFrozen(part)).toBeTrue();
});

test("what was given to parse stays as it was", () => {
  const raw = { templates: [{ urlTemplate: "http://h/", dialect: "cloudevents" }] };
  faultsOf(raw);
  expect(raw).toEqual({ templates: [{ urlTemplate: "http://h/", dialect: "cloudevents" }] });
  expect(Object.isFrozen(raw.templates)).toBeFalse();
});

describe("limits of numbers", () => {
  const numbers = listOptions().filter(({ kind }) => kind === "integer" || kind === "number");
  // Options of a later version take their default only; their own test is below.
  const usable = numbers.filter((option) => !/comes with a later version/.test(option.doc));

  test("are stated for every number", () => {
    expect(numbers.length).toBeGreaterThan(25);
    for (const { min, max } of numbers) expect([min, max].every(Number.isSafeInteger)).toBeTrue();
  });

  for (const option of usable) {
    const name = option.path.join(".");
    const [min, max] = [option.min ?? 0, option.max ?? 0];
    test(`${name} takes ${min} and ${max} and refuses what lies beyond`, () => {
      expect(faultsOf(treeOf(option, min))).toEqual([]);
      expect(faultsOf(treeOf(option, max))).toEqual([]);
      expect(faultsOf(treeOf(option, min - 1)).map(({ message }) => message)).toEqual([`must be at least ${min}`]);
      expect(faultsOf(treeOf(option, max + 1))).toHaveLength(1);
      expect(faultsOf(treeOf(option, Number.NaN))).toHaveLength(1);
      expect(faultsOf(treeOf(option, "5")).map(({ message }) => message)).toEqual(["must be a number"]);
      if (option.kind === "integer") {
        expect(faultsOf(treeOf(option, max - 0.5 > min ? min + 0.5 : max)).map(({ message }) => message)).toEqual([
          "must be a whole number",
        ]);
      }
    });
  }
});

describe("options of a later version", () => {
  const message = "not in this version of hubwire; leave it out";
  for (const [raw, path] of [
    [{ upstreams: [{ urlTemplate: "http://h/", dialect: "cloudevents" }] }, "upstreams[0].dialect"],
  ] as const) {
    test(`say so instead of being ignored: ${path}`, () => {
      expect(faultsOf(raw)).toEqual([{ path, message, where: null }]);
    });
  }

  test("may be written with their defaults", () => {
    const upstreams = [{ urlTemplate: "http://h/", dialect: "asrs" }];
    expect(faultsOf({ upstreams })).toEqual([]);
  });
});

describe("types", () => {
  for (const [raw, path, message] of [
    [{ listen: { reusePort: "yes" } }, "listen.reusePort", "must be true or false"],
    [{ listen: null }, "listen", "is empty; give it a value (a block of keys) or leave the key out"],
    [{ listen: [] }, "listen", "must be a block of keys"],
    [{ publicUrls: "http://h" }, "publicUrls", "must be a list"],
    [
      { publicUrls: ["ftp://h"] },
      "publicUrls[0]",
      "must be an absolute URL that starts with http://, https://, ws://, wss://",
    ],
    [{ dataDir: "" }, "dataDir", "must not be empty"],
    [{ dataDir: 5 }, "dataDir", "must be text"],
    [{ anonymous: "maybe" }, "anonymous", "must be allow or deny"],
    [{ hubs: [] }, "hubs", "must be a block of keys"],
    [{ hubs: { chat: { anonymous: "no" } } }, "hubs.chat.anonymous", "must be allow or deny"],
    [{ upstreams: [{}] }, "upstreams[0].urlTemplate", "is required"],
    [{ upstreams: [5] }, "upstreams[0]", "must be a block of keys"],
    [{ upstreams: [{ urlTemplate: "http://h/", auth: {} }] }, "upstreams[0].auth.type", "is required"],
    [
      { trustedProxies: ["10.0.0.0/99"] },
      "trustedProxies[0]",
      'the prefix after "/" must be a whole number from 0 to 32',
    ],
    [{ allowedOrigins: ["app"] }, "allowedOrigins[0]", expect.stringContaining('must be "*" or an origin')],
    [{ listen: { tls: {} } }, "listen.tls.certFile", "is required"],
    [{ cluster: {} }, "cluster.nats", "is required"],
    [{ cluster: { nats: {} } }, "cluster.nats.servers", "is required"],
    [{ cluster: { nats: { servers: "nats://h" } } }, "cluster.nats.servers", "must be a list"],
    [{ cluster: { nats: { servers: [] } } }, "cluster.nats.servers", "must not be empty"],
    [{ cluster: { nats: { servers: ["h"], password: "" } } }, "cluster.nats.password", "must not be empty"],
    ["text", "", "must be a block of keys"],
    [null, "", "must be a block of keys"],
    [[], "", "must be a block of keys"],
  ] as const) {
    test(`${path === "" ? "the whole" : path} ${message}`, () => {
      expect(faultsOf(raw)).toContainEqual({ path, message, where: null });
    });
  }
});

describe("unknown keys", () => {
  for (const [raw, path, message] of [
    [{ anonymus: "deny" }, "anonymus", "no such key; did you mean `anonymous`?"],
    [{ port: 1 }, "port", "no such key; did you mean `listen.port`?"],
    [{ timeoutMs: 1 }, "timeoutMs", "no such key; did you mean `upstreams[].timeoutMs`?"],
    [{ zzzz: 1 }, "zzzz", "no such key"],
    [{ listen: { hots: "h" } }, "listen.hots", "no such key; did you mean `host`?"],
    [{ listen: { tls: { certfile: "h" } } }, "listen.tls.certfile", "no such key; did you mean `certFile`?"],
    [{ hubs: { "a.b": { anonymos: 1 } } }, 'hubs["a.b"].anonymos', "no such key; did you mean `anonymous`?"],
    [
      { upstreams: [{ urlTemplate: "http://h/", timeoutMS: 1 }] },
      "upstreams[0].timeoutMS",
      "no such key; did you mean `timeoutMs`?",
    ],
    [
      { upstreams: [{ breaker: { minCall: 1 } }] },
      "upstreams[0].breaker.minCall",
      "no such key; did you mean `minCalls`?",
    ],
    [
      { upstreams: [{ auth: { type: "oauth2", tokenUri: "x" } }] },
      "upstreams[0].auth.tokenUri",
      "no such key; did you mean `tokenUrl`?",
    ],
    [{ upstreams: [{ auth: { type: "none", scope: "x" } }] }, "upstreams[0].auth.scope", "no such key"],
    [JSON.parse('{"__proto__":{"anonymous":"deny"}}'), "__proto__", "no such key"],
    [JSON.parse('{"hubs":{"__proto__":{"anonymous":"deny"}}}'), "hubs.__proto__", "no such key"],
  ] as const) {
    test(`are refused at every level: ${path}`, () => {
      expect(faultsOf(raw)).toContainEqual({ path, message, where: null });
    });
  }

  test("of a megabyte do not fill the report", () => {
    expect(faultsOf({ ["k".repeat(1_000_000)]: 1 })[0]?.path.length).toBeLessThan(200);
  });
});

test("a tree that contains itself is refused, without an endless loop", () => {
  const raw: Record<string, unknown> = {};
  raw["hubs"] = raw;
  expect(faultsOf(raw)).toContainEqual({ path: "hubs.hubs.hubs", message: "is nested too deep", where: null });
});

test("every option says what it is for, and only those of entries have no twin", () => {
  for (const option of listOptions()) {
    expect(option.doc.length).toBeGreaterThan(10);
    expect(hasTwin(option)).toBe(!/^(?:upstreams|hubs|paths),./.test(option.path.join(",")));
  }
});
