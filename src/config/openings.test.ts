import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DROPPED_OPTIONS } from "./dropped-options.ts";
import { type LoadedConfig, loadConfig } from "./load.ts";
import { findCutEnd, findOpenings } from "./openings.ts";
import { listOptions } from "./options.ts";

const folder = mkdtempSync(join(tmpdir(), "hubwire-openings-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const pem = join(folder, "file.pem");
writeFileSync(pem, "");

type Env = Readonly<Record<string, string>>;

function fromYaml(text: string, env: Env = {}): LoadedConfig {
  return loadConfig({ filePath: join(folder, "hubwire.yaml"), fileText: text, env });
}

function from(config: object, env: Env = {}): LoadedConfig {
  return loadConfig({ filePath: join(folder, "hubwire.json"), fileText: JSON.stringify(config), env });
}

/** The key paths of what a change opens. */
function opened(before: object, after: object, env: Env = {}): string[] {
  return findOpenings(from(before, env), from(after, env)).map(({ path }) => path);
}

const A = "http://a.example/{event}";
const B = "http://b.example/{event}";
const entry = (more: object = {}) => ({ urlTemplate: A, ...more });
const inEntry = (more: object) => [{ upstreams: [entry(more)] }, { upstreams: [entry()] }] as const;
const headers = (names: object) => ({ auth: { type: "headers", headers: names } });
const oauth2 = { type: "oauth2", tokenUrl: "http://a.example/token", clientId: "c", clientSecret: "s" };
const KEY = "k".repeat(40);

/** For each option whose loss opens something: a configuration with it, and the same without it. */
const DROPPED: Readonly<Record<string, readonly [object, object]>> = {
  publicUrls: [{ publicUrls: ["https://a.example"] }, {}],
  "accessKeys.primary": [{ accessKeys: { primary: KEY } }, {}],
  trustedProxies: [{ trustedProxies: ["10.0.0.1"] }, {}],
  clientCertHeader: [{ trustedProxies: ["10.0.0.1"], clientCertHeader: "X-Cert" }, { trustedProxies: ["10.0.0.1"] }],
  anonymous: [{ anonymous: "deny" }, {}],
  allowedOrigins: [{ allowedOrigins: [] }, {}],
  "hubs.admin.anonymous": [{ hubs: { admin: { anonymous: "deny" } } }, { hubs: { admin: {} } }],
  "hubs.admin.allowedOrigins": [{ hubs: { admin: { allowedOrigins: ["https://a.example"] } } }, { hubs: {} }],
  upstreams: [{ upstreams: [entry(), entry()] }, {}],
  "upstreams[0].hubPattern": inEntry({ hubPattern: "chat" }),
  "upstreams[0].categoryPattern": inEntry({ categoryPattern: "messages" }),
  "upstreams[0].eventPattern": inEntry({ eventPattern: "connect,message" }),
  "upstreams[0].connectEventName": inEntry({ connectEventName: "connect" }),
  "upstreams[0].forwardHeaders": inEntry({ forwardHeaders: ["Origin"] }),
  "upstreams[0].repeatOnStaleSocket": inEntry({ repeatOnStaleSocket: false }),
  "upstreams[0].maxConcurrency": inEntry({ maxConcurrency: 1023 }),
  "upstreams[0].maxConcurrencyPerAddress": inEntry({ maxConcurrencyPerAddress: 100 }),
  "upstreams[0].auth": inEntry({ auth: { type: "managedIdentity", resource: "r" } }),
  "upstreams[0].auth.headers": [
    { upstreams: [entry(headers({ "X-One": "1", "X-Two": "2" }))] },
    { upstreams: [entry(headers({ "X-One": "1" }))] },
  ],
  "upstreams[0].auth.scope": [
    { upstreams: [entry({ auth: { ...oauth2, scope: "s" } })] },
    { upstreams: [entry({ auth: oauth2 })] },
  ],
  "upstreams[0].tls.caFile": inEntry({ tls: { caFile: pem } }),
  "upstreams[0].tls.certFile": inEntry({ tls: { certFile: pem, keyFile: pem } }),
  "upstreams[0].tls.keyFile": inEntry({ tls: { certFile: pem, keyFile: pem } }),
  allowedUpstreamHosts: [{ allowedUpstreamHosts: ["a.example"] }, {}],
  "disconnect.maxPerSecond": [{ disconnect: { maxPerSecond: 499 } }, { disconnect: {} }],
};

/** The key path of a case, as the name of its option. */
const optionOf = (path: string) => path.replaceAll(/\[\d+\]/g, "[]").replace("hubs.admin.", "hubs.{name}.");
const LIMITS = listOptions().filter(({ path }) => path[0] === "limits" && path.length === 2);

describe("an option that is left out, and allowed less than its default", () => {
  for (const [path, [before, after]] of Object.entries(DROPPED)) {
    test(`${path} is named`, () => {
      expect(opened(before, after)).toContain(path);
      expect(findOpenings(from(before), from(after)).find((fault) => fault.path === path)?.message).toMatch(
        /^is not given any more, which \w+s /,
      );
      expect(opened(before, before)).toEqual([]);
      // To set it narrows, and narrower patterns may lose events.
      if (!path.endsWith("Pattern")) expect(opened(after, before)).toEqual([]);
    });
  }

  for (const { path, fallback } of LIMITS) {
    const name = path[1] ?? "";
    test(`limits.${name} is named`, () => {
      const set = fallback === 0 || fallback === null ? 1_000_000 : Number(fallback) - 1;
      const before = { limits: { [name]: set } };
      for (const after of [{}, { limits: {} }]) expect(opened(before, after)).toEqual([`limits.${name}`]);
      expect(opened(before, { limits: { [name]: fallback } })).toEqual([]);
    });
  }

  test("every option that says so has a case here", () => {
    const declared = Object.entries(DROPPED_OPTIONS).filter(([, { kind }]) => kind === "opens");
    const cases = new Set([...Object.keys(DROPPED).map(optionOf), ...LIMITS.map(({ path }) => path.join("."))]);
    expect(declared.map(([name]) => name).filter((name) => !cases.has(name))).toEqual([]);
  });

  test("all are named at once, without their values", () => {
    const before = {
      anonymous: "deny",
      accessKeys: { primary: `${KEY}-hush` },
      hubs: { admin: { anonymous: "deny", allowedOrigins: ["https://hush.example"] } },
      upstreams: [entry(headers({ "X-Key": "hush" }))],
    };
    const faults = findOpenings(from(before), fromYaml("# nothing\n"));
    expect(faults.map(({ path }) => path)).toEqual([
      "accessKeys.primary",
      "anonymous",
      "upstreams",
      "hubs.admin.anonymous",
      "hubs.admin.allowedOrigins",
    ]);
    expect(JSON.stringify(faults)).not.toContain("hush");
  });
});

describe("what opens nothing by being left out", () => {
  for (const [what, before, after] of [
    [
      "a value that is written out",
      { anonymous: "deny", allowedOrigins: [] },
      { anonymous: "allow", allowedOrigins: ["*"] },
    ],
    [
      "a hub that let more in than the top level",
      { anonymous: "deny", hubs: { a: { anonymous: "allow" } } },
      { anonymous: "deny" },
    ],
    [
      "a hub that said what the top level says",
      { anonymous: "deny", hubs: { a: { anonymous: "deny" } } },
      { anonymous: "deny" },
    ],
    ["a hub that never said it", { anonymous: "deny", hubs: { a: {} } }, { anonymous: "allow", hubs: { a: {} } }],
    ["a hub in another case", { hubs: { Admin: { anonymous: "deny" } } }, { hubs: { aDMIN: { anonymous: "deny" } } }],
    ["origins with * among them", { allowedOrigins: ["https://a.example", "*"] }, {}],
    ["fewer origins", { allowedOrigins: ["https://a.example", "null"] }, { allowedOrigins: ["null"] }],
    ["a limit above its default", { limits: { maxConnections: 60_000 } }, {}],
    ["a rate without limit", { limits: { messagesPerSecond: 0 } }, {}],
    [
      "a raised limit",
      { limits: { messagesPerSecond: 1, maxConnections: 1 } },
      { limits: { messagesPerSecond: 0, maxConnections: 2 } },
    ],
    [
      "the second key, as a rotation ends",
      { accessKeys: { primary: KEY, secondary: `x${KEY}` } },
      { accessKeys: { primary: KEY } },
    ],
    ["keys that are written out as none", { accessKeys: { primary: KEY } }, { accessKeys: { primary: null } }],
    ["a metadata address next to *", { allowedUpstreamHosts: ["*", "169.254.169.254"] }, {}],
    ["all upstreams, written out", { upstreams: [entry()] }, { upstreams: [] }],
    ["upstreams by their other name", { upstreams: [entry()] }, { templates: [entry()] }],
    [
      "auth that is written out as none",
      inEntry({ auth: oauth2 })[0],
      { upstreams: [entry({ auth: { type: "none" } })] },
    ],
    [
      "another type of auth",
      { upstreams: [entry(headers({ "X-Key": "1" }))] },
      { upstreams: [entry({ auth: oauth2 })] },
    ],
    [
      "a header in another case",
      { upstreams: [entry(headers({ "X-Key": "1" }))] },
      { upstreams: [entry(headers({ "x-key": "1" }))] },
    ],
    [
      "what waits for the next start",
      { listen: { host: "127.0.0.2", reusePort: true }, journal: { synchronous: "full" } },
      {},
    ],
    [
      "options that protect nothing",
      { websocket: { compression: true, pingAfterMs: 100 }, shutdown: { delayMs: 5 } },
      {},
    ],
  ] as readonly (readonly [string, object, object])[]) {
    test(what, () => expect(opened(before, after)).toEqual([]));
  }

  test("what a variable gives, however the file changes", () => {
    const env = {
      HUBWIRE_ANONYMOUS: "deny",
      HUBWIRE_LIMITS: '{"maxConnections":5}',
      HUBWIRE_ACCESS_KEYS_PRIMARY: KEY,
      HUBWIRE_UPSTREAMS: JSON.stringify([entry()]),
      HUBWIRE_HUBS: '{"a":{"anonymous":"deny"}}',
    };
    const file = {
      anonymous: "deny",
      limits: { maxConnections: 7 },
      accessKeys: { primary: KEY },
      upstreams: [entry()],
    };
    expect(opened(file, {}, env)).toEqual([]);
    expect(opened(file, {}, { HUBWIRE_ANONYMOUS: "deny" })).toEqual([
      "accessKeys.primary",
      "upstreams",
      "limits.maxConnections",
    ]);
  });
});

describe("a hub", () => {
  const hubs = { admin: { anonymous: "deny" }, "a.b": { allowedOrigins: ["https://a.example"] } };

  test("opens when it is left out, even where the top level does not", () => {
    const paths = ["hubs.admin.anonymous", 'hubs["a.b"].allowedOrigins'];
    expect(opened({ hubs }, {})).toEqual(paths);
    expect(opened({ hubs }, { anonymous: "allow", allowedOrigins: ["*"] })).toEqual(paths);
    expect(opened({ hubs }, { hubs: { admin: {} }, allowedOrigins: [] })).toEqual(["hubs.admin.anonymous"]);
  });

  test("that only an item of paths wrote, in capitals, is named; an item without them may be left out", () => {
    const paths = [
      { pattern: "/a", hub: "plain" },
      { pattern: "/ocpp/{id}", hub: "OCPP" },
    ];
    expect(opened({ paths }, {})).toEqual(["paths[1].hub"]);
    expect(opened({ paths }, { hubs: { OCPP: {} } })).toEqual([]);
    expect(opened({ paths: paths.slice(0, 1) }, {})).toEqual([]);
  });

  test("that no place writes any more is named when its spelling was not lower case", () => {
    const twice = { hubs: { Admin: {} }, upstreams: [entry(), entry({ hubPattern: "Admin" })] };
    expect(opened(twice, { upstreams: twice.upstreams })).toEqual([]);
    expect(opened(twice, { hubs: twice.hubs, upstreams: [entry()] })).toEqual([]);
    expect(opened(twice, { upstreams: [entry()] })).toEqual(["hubs.Admin"]);
    expect(opened({ upstreams: twice.upstreams }, { upstreams: [entry()] })).toEqual(["upstreams[1].hubPattern"]);
    expect(opened({ hubs: { Admin: {} } }, { hubs: { admin: {} } })).toEqual([]);
    expect(opened({ hubs: { admin: {} } }, {})).toEqual([]);
  });

  test("named constructor is a hub like others", () => {
    expect(opened({ hubs: { constructor: { anonymous: "deny" } } }, {})).toEqual(["hubs.constructor.anonymous"]);
  });
});

describe("an entry of upstreams", () => {
  const chat = { urlTemplate: A, hubPattern: "chat" };
  const admin = { urlTemplate: B, hubPattern: "admin" };
  const messageOf = (before: object, after: object) => findOpenings(from(before), from(after))[0]?.message;

  test("that is gone is named when no other takes its events", () => {
    expect(opened({ upstreams: [chat, admin] }, { upstreams: [chat] })).toEqual(["upstreams[1]"]);
    expect(opened({ templates: [chat, admin] }, { templates: [admin] })).toEqual(["templates[0]"]);
    expect(messageOf({ upstreams: [chat, admin] }, { upstreams: [chat] })).toBe(
      "was removed, and no other entry takes its events: connect, message, disconnect",
    );
  });

  test("that is gone opens nothing when others take its events", () => {
    expect(opened({ upstreams: [chat, admin] }, { upstreams: [{ urlTemplate: A }] })).toEqual([
      "upstreams[0].hubPattern",
    ]);
    const all = { urlTemplate: B };
    expect(opened({ upstreams: [chat, all] }, { upstreams: [all] })).toEqual([]);
    expect(opened({ upstreams: [chat, admin] }, { upstreams: [{ ...admin, hubPattern: "ADMIN, Chat" }] })).toEqual([]);
    // Never reached.
    expect(opened({ upstreams: [entry(), admin] }, { upstreams: [entry()] })).toEqual([]);
  });

  test("that takes fewer events is named with those that are lost", () => {
    const only = (eventPattern: string) => ({ upstreams: [{ ...chat, eventPattern }] });
    expect(messageOf(only("connect,message"), only("message"))).toBe(
      "was removed, and no other entry takes its events: connect",
    );
    expect(opened({ upstreams: [entry()] }, { upstreams: [chat] })).toEqual(["upstreams[0]"]);
  });

  test("is known by its URL when it has moved, and by its position when it has another URL", () => {
    const proved = { ...admin, auth: oauth2, tls: { caFile: pem } };
    expect(opened({ upstreams: [chat, proved] }, { upstreams: [admin, chat] })).toEqual([
      "upstreams[0].auth",
      "upstreams[0].tls.caFile",
    ]);
    const elsewhere = { ...admin, urlTemplate: "http://c.example/" };
    expect(opened({ upstreams: [chat, proved] }, { upstreams: [chat, elsewhere] })).toContain("upstreams[1].auth");
    expect(
      opened({ upstreams: [chat, proved] }, { upstreams: [chat, { ...proved, urlTemplate: "http://c.example/" }] }),
    ).toEqual([]);
  });

  test("of the same URL as others keeps its position", () => {
    const one = entry({ hubPattern: "a", auth: oauth2 });
    const two = entry({ hubPattern: "b" });
    expect(opened({ upstreams: [one, two] }, { upstreams: [one, two] })).toEqual([]);
    expect(opened({ upstreams: [one, two] }, { upstreams: [entry({ hubPattern: "a" }), two] })).toEqual([
      "upstreams[0].auth",
    ]);
  });

  test("of the same URL as others is known by its patterns when it has moved", () => {
    const one = entry({ hubPattern: "a", auth: oauth2 });
    const two = entry({ hubPattern: "b" });
    expect(opened({ upstreams: [one, two] }, { upstreams: [two, one] })).toEqual([]);
    expect(opened({ upstreams: [one, two] }, { upstreams: [entry({ hubPattern: "c" }), one, two] })).toEqual([]);
    expect(opened({ upstreams: [one, two] }, { upstreams: [two, entry({ hubPattern: "a" })] })).toEqual([
      "upstreams[1].auth",
    ]);
  });
});

test("a key that is the beginning of the one in force is named", () => {
  const keys = (primary: string, secondary: string) => ({ accessKeys: { primary, secondary } });
  expect(opened(keys(KEY, "second"), keys(KEY.slice(0, 3), "sec"))).toEqual([
    "accessKeys.primary",
    "accessKeys.secondary",
  ]);
  expect(opened(keys(KEY, "second"), keys("second", KEY))).toEqual([]);
  expect(opened(keys(KEY, "second"), keys(`${KEY}k`, "other"))).toEqual([]);
});

test("a key with nothing behind it is not written out, null and ~ are", () => {
  const proxies = "trustedProxies: [10.0.0.1]\n";
  const before = fromYaml(`${proxies}clientCertHeader: X-Cert\naccessKeys:\n  primary: ${KEY}\n`);
  const pathsOf = (text: string) => findOpenings(before, fromYaml(proxies + text)).map(({ path }) => path);
  expect(pathsOf("clientCertHeader:\naccessKeys:\n  primary:\n")).toEqual(["accessKeys.primary", "clientCertHeader"]);
  expect(pathsOf("clientCertHeader: # none\naccessKeys:\n  primary: !!null\n")).toEqual([
    "accessKeys.primary",
    "clientCertHeader",
  ]);
  expect(pathsOf("clientCertHeader: null\naccessKeys:\n  primary: ~\n")).toEqual([]);
  const env = { HUBWIRE_CLIENT_CERT_HEADER: "null" };
  const withVariable = findOpenings(before, fromYaml(`${proxies}clientCertHeader:\naccessKeys: { primary: ~ }\n`, env));
  expect(withVariable).toEqual([]);
});

describe("the end of a file", () => {
  const cutAt = (text: string, before = "anonymous: deny\n") =>
    findCutEnd(fromYaml(before), fromYaml(text)).map(({ path }) => path);

  for (const [text, path] of [
    ["allowedOrigins:\n  - https://app.example", "allowedOrigins[0]"],
    ["allowedOrigins:\n  - 'https://app.example'", "allowedOrigins[0]"],
    ["limits:\n  maxConnections: 50", "limits.maxConnections"],
    ["limits:\n  maxConnections: 50  ", "limits.maxConnections"],
    ["limits: { maxConnections: 5 }\ntrustedProxies:\n- 10.0.0.0/2", "trustedProxies[0]"],
    ["accessKeys:\n  primary: |\n    one\n    two\n", "accessKeys.primary"],
    ["accessKeys:\n  primary: >-\n    one\n\n", "accessKeys.primary"],
    ["templates:\n  - urlTemplate: http://a", "templates[0].urlTemplate"],
    ["upstreams:\n  - urlTemplate: http://a\n    hubPattern:\n      - a", "upstreams[0].hubPattern[0]"],
    ["publicUrls: [ &url https://a ]\naccessKeys:\n  primary: *url", "accessKeys.primary"],
  ] as const) {
    test(`may be a cut value: ${JSON.stringify(text)}`, () => expect(cutAt(text)).toEqual([path]));
  }

  for (const text of [
    "allowedOrigins:\n  - https://app.example\n",
    "allowedOrigins:\n  - https://app.example # ours",
    'allowedOrigins:\n  - "https://app.example"',
    "allowedOrigins: [https://app.example]",
    "{ limits: { maxConnections: 50 } }",
    "limits:\n  maxConnections: 50\r\n",
    "limits:\n  maxConnections: 50\n...",
    "accessKeys:\n  primary: |\n    one\n# end\n",
    "# nothing",
    "",
    // A choice is whole when it is one.
    "anonymous: allow",
    "hubs:\n  a:\n    anonymous: allow",
    "websocket:\n  compression: true",
    "clientCertHeader:",
  ]) {
    test(`is whole: ${JSON.stringify(text)}`, () => expect(cutAt(text)).toEqual([]));
  }

  test("says nothing of a value that is in force, or that a variable replaces", () => {
    const text = "limits:\n  maxConnections: 50";
    expect(cutAt(text, text)).toEqual([]);
    expect(cutAt(text, `${text}0`)).toEqual(["limits.maxConnections"]);
    const env = { HUBWIRE_LIMITS_MAX_CONNECTIONS: "7" };
    expect(findCutEnd(fromYaml("", env), fromYaml(text, env))).toEqual([]);
  });

  test("no choice is the beginning of another", () => {
    for (const { path, choices } of listOptions()) {
      for (const one of choices) {
        const longer = choices.filter((other) => other !== one && other.startsWith(one));
        expect([path.join("."), ...longer]).toHaveLength(1);
      }
    }
  });
});
