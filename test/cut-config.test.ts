import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { stringify } from "yaml";
import { ConfigError } from "../src/config/faults.ts";
import { type LoadedConfig, loadConfig } from "../src/config/load.ts";
import { findCutEnd, findOpenings } from "../src/config/openings.ts";
import { listBounds, listOpen, type Probes } from "./support/openness.ts";

/** A file that was cut anywhere while it was written opens nothing, if a reload takes it at all. */

setDefaultTimeout(120_000);

const folder = mkdtempSync(join(tmpdir(), "hubwire-cut-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
for (const name of ["ca.pem", "ca.pem.old", "client.pem", "client.key"]) writeFileSync(join(folder, name), "");

/** Options of every kind, each with a value that protects. The last key of a block differs by `order`. */
const RICH = {
  listen: { host: "127.0.0.1", port: 8080 },
  publicUrls: ["https://chat.example.com", "https://chat.example.com:8443/"],
  accessKeys: { primary: "a primary key of several words", secondary: "secondary-key-secondary-key" },
  trustedProxies: ["10.20.0.0/16", "192.168.7.10", "fd00::/64"],
  clientCertHeader: "X-Client-Cert-Sha1",
  anonymous: "deny",
  allowedOrigins: ["https://app.example.com", "https://www.example.com:8443", "null"],
  hubs: {
    Admin: { anonymous: "deny", allowedOrigins: ["https://admin.example.com"] },
    open: { anonymous: "allow", allowedOrigins: ["*"] },
    "a.b,c": { allowedOrigins: [] },
  },
  upstreams: [
    {
      urlTemplate: "https://admin.example.com:8443/{hub}/{event}",
      hubPattern: ["Admin", "a.b,c"],
      eventPattern: "connect,message",
      connectEventName: "connect",
      repeatOnStaleSocket: false,
      forwardHeaders: ["origin", "user-agent"],
      maxConcurrency: 16,
      auth: { type: "headers", headers: { "X-Api-Key": "one two", Authorization: "Basic dXNlcjpwYXNz" } },
      tls: { caFile: "ca.pem.old", certFile: "client.pem", keyFile: "client.key" },
    },
    {
      urlTemplate: "https://backend.example.com/{hub}/{category}/{event}?code=a%2Fb",
      hubPattern: "chat",
      categoryPattern: "connections",
      auth: {
        type: "oauth2",
        tokenUrl: "https://login.example.com/token",
        clientId: "hubwire",
        clientSecret: "it's secret",
        scope: "events.write events.read",
      },
    },
    { urlTemplate: "https://backend.example.com/rest", auth: { type: "managedIdentity", resource: "api://rest" } },
  ],
  allowedUpstreamHosts: ["*.example.com", "10.20.30.0/24"],
  limits: { maxConnections: 5000, maxMessageBytes: 65_536, messagesPerSecond: 100, connectsPerSecondPerAddress: 20 },
  disconnect: { maxPerSecond: 100 },
  shutdown: { delayMs: 1000 },
};

type Tree = Record<string, unknown>;

/** The same configuration with its keys in another order: the last key is the first that a cut loses. */
function turn(value: unknown, by: number): unknown {
  if (Array.isArray(value)) return value.map((item) => turn(item, by));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value);
  const from = by % entries.length;
  const turned = [...entries.slice(from), ...entries.slice(0, from)];
  return Object.fromEntries(turned.map(([key, item]) => [key, turn(item, by)]));
}

/** Every beginning of each name: what a cut may leave of it. */
const beginnings = (names: readonly string[]) =>
  names.flatMap((name) => [...name].map((_, end) => name.slice(0, end + 1)));

/** Origins that another file adds. */
const NEW_ORIGINS = ["https://app.example.com.evil.example", "https://app.example", "http://localhost:3000"];

const PROBES: Probes = {
  hubs: ["Admin", "open", "a.b,c", "chat", "a", "other"],
  origins: beginnings([...RICH.allowedOrigins, ...NEW_ORIGINS, "https://admin.example.com", "https://evil.example"]),
  addresses: [
    "10.20.3.4",
    "10.21.3.4",
    "10.255.3.4",
    "11.0.0.1",
    "192.168.7.10",
    "192.168.7.1",
    "fd00::1",
    "fd00:1::1",
    "8.8.8.8",
  ],
  upstreamHosts: [
    "a.example.com",
    "a.example.co",
    "a.example.c",
    "evil.example",
    "10.20.30.1",
    "10.20.31.1",
    "10.99.0.1",
    "11.0.0.1",
  ],
};

function load(name: string, text: string): LoadedConfig {
  return loadConfig({ filePath: join(folder, name), fileText: text, env: {} });
}

/** What a reload makes of a text, as `ConfigReload` does when the file has changed; null: it is refused. */
function reloadOf(
  inForce: LoadedConfig,
  name: string,
  text: string,
): { taken: LoadedConfig | null; why: "fault" | "doubt" | null } {
  try {
    const next = load(name, text);
    const doubts = [...findOpenings(inForce, next), ...findCutEnd(inForce, next)];
    return doubts.length > 0 ? { taken: null, why: "doubt" } : { taken: next, why: null };
  } catch (error) {
    if (error instanceof ConfigError) return { taken: null, why: "fault" };
    throw error;
  }
}

/** A check of what a configuration lets happen that none of these does. */
function openedBeyond(known: readonly LoadedConfig[]): (taken: LoadedConfig) => string[] {
  const open = known.map(({ config }) => listOpen(config, PROBES));
  const bounds = known.map(({ config }) => listBounds(config));
  return ({ config }) => [
    ...[...listOpen(config, PROBES)].filter((one) => !open.some((set) => set.has(one))),
    ...[...listBounds(config)]
      .filter(([name, bound]) => bounds.every((others) => bound > (others.get(name) ?? 0)))
      .map(([name]) => `${name} is higher`),
  ];
}

/** Cuts a text at every byte, or behind every line, and counts what becomes of the beginnings. */
function cutEverywhere(
  name: string,
  text: string,
  isCut: (bytes: Buffer, end: number) => boolean = () => true,
): { fault: number; doubt: number; taken: number } {
  const inForce = load(name, text);
  const openedBy = openedBeyond([inForce]);
  const counts = { fault: 0, doubt: 0, taken: 0 };
  const bytes = Buffer.from(text);
  for (let end = 0; end <= bytes.length; end++) {
    if (!isCut(bytes, end)) continue;
    const cut = bytes.toString("utf8", 0, end);
    const { taken, why } = reloadOf(inForce, name, cut);
    counts[why ?? "taken"]++;
    if (taken === null) continue;
    const opened = openedBy(taken);
    if (opened.length > 0) {
      throw new Error(`cut at ${end}, after ${JSON.stringify(cut.slice(-60))}: ${opened.slice(0, 3).join("; ")}`);
    }
  }
  return counts;
}

const LINE_FEED = 0x0a;
const isLineEnd = (bytes: Buffer, end: number) => bytes[end - 1] === LINE_FEED;

describe("a file that was cut opens nothing", () => {
  for (const by of Object.keys(RICH).keys()) {
    const tree = turn(RICH, by) as Tree;
    test(`YAML that ends with ${Object.keys(tree).at(-1)}, after every line`, () => {
      expect(cutEverywhere("hubwire.yaml", stringify(tree), isLineEnd).taken).toBeGreaterThan(0);
    });
  }

  for (const [what, by, style] of [
    ["without quotes", 8, {}],
    ["in single quotes and lists at the margin", 6, { defaultStringType: "QUOTE_SINGLE", indentSeq: false }],
    ["as block texts", 9, { defaultStringType: "BLOCK_LITERAL" }],
    ["folded into short lines, keys last", 3, { lineWidth: 8, minContentWidth: 0 }],
  ] as const) {
    test(`YAML with texts ${what}, at every byte`, () => {
      const { taken } = cutEverywhere("hubwire.yaml", stringify(turn(RICH, by), style));
      expect(taken).toBeGreaterThan(0);
    });
  }

  test("YAML with texts in double quotes, and with lists in brackets, after every line", () => {
    for (const style of [{ defaultStringType: "QUOTE_DOUBLE" }, { collectionStyle: "flow" }] as const) {
      expect(cutEverywhere("hubwire.yaml", stringify(turn(RICH, 9), style), isLineEnd).taken).toBeGreaterThan(0);
    }
  });

  test("YAML with anchors, comments, characters of two bytes and lines that end with CR LF, at every byte", () => {
    const text = [
      "allowedOrigins: &origins [https://app.example.com]",
      "anonymous: &deny deny # größer: nichts",
      "# anonymous: allow",
      "limits:",
      "  maxConnections: &few 100",
      "upstreams:",
      "  - &entry",
      "    urlTemplate: &url https://backend.example.com/größe",
      "hubs:",
      "  Admin:",
      "    anonymous: *deny",
      "    allowedOrigins: *origins",
      "disconnect:",
      "  maxPerSecond: *few",
      "",
    ].join("\r\n");
    const { taken, doubt } = cutEverywhere("hubwire.yaml", text);
    expect([taken, doubt].every((count) => count > 0)).toBeTrue();
  });

  test("JSON, at every byte", () => {
    const text = `${JSON.stringify(RICH)}\n`;
    // Whole but for the line break, and whole.
    expect(cutEverywhere("hubwire.json", text)).toEqual({ fault: text.length - 1, doubt: 0, taken: 2 });
  });

  test("JSON in a file for YAML, and `templates`, after every line", () => {
    const { upstreams: templates, ...rest } = RICH;
    const text = `${JSON.stringify({ ...rest, templates }, null, 2)}\n`;
    // The empty file is not among them.
    expect(cutEverywhere("hubwire.yaml", text, isLineEnd)).toMatchObject({ taken: 1, doubt: 0 });
    for (const tree of [
      { ...rest, templates },
      { templates, ...rest },
    ]) {
      expect(cutEverywhere("hubwire.yaml", stringify(tree), isLineEnd).doubt).toBeGreaterThan(0);
    }
  });
});

describe("another file that was cut opens no more than it says itself", () => {
  /** Values in place of those of RICH: of the same keys, and none that opens what its neighbour closes. */
  const other = fc.record({
    by: fc.nat(Object.keys(RICH).length - 1),
    origin: fc.constantFrom(...NEW_ORIGINS),
    network: fc.constantFrom("10.20.30.0/24", "10.0.0.0/8", "172.16.0.0/12"),
    url: fc.constantFrom("https://backend-2.example.com/{hub}", "https://backend.example.com/rest2"),
    count: fc.integer({ min: 1, max: 49_999 }),
    isLast: fc.boolean(),
  });

  /** How many characters are missing, as a part of all: often few, where the changed values are. */
  const missing = fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 0.04, noNaN: true }));

  test("at random places, after random changes", () => {
    const inForce = load("hubwire.yaml", stringify(RICH));
    let taken = 0;
    fc.assert(
      fc.property(other, missing, ({ by, origin, network, url, count, isLast }, part) => {
        const [admin, chat, rest] = RICH.upstreams;
        const entries = isLast
          ? [admin, chat, { ...rest, urlTemplate: url }]
          : [admin, { ...chat, urlTemplate: url }, rest];
        const changed = {
          ...RICH,
          allowedOrigins: [...RICH.allowedOrigins, origin],
          trustedProxies: [...RICH.trustedProxies, network],
          upstreams: entries,
          limits: { ...RICH.limits, maxConnections: count, messagesPerSecond: count },
        };
        const text = stringify(turn(changed, by));
        const whole = load("hubwire.yaml", text);
        const openedBy = openedBeyond([inForce, whole]);
        const end = Math.floor((1 - part) * text.length);
        for (const cut of [text.slice(0, end), text.slice(0, text.indexOf("\n", end) + 1)]) {
          const reload = reloadOf(inForce, "hubwire.yaml", cut);
          if (reload.taken === null) continue;
          taken++;
          expect(openedBy(reload.taken)).toEqual([]);
        }
      }),
      { numRuns: 150 },
    );
    expect(taken).toBeGreaterThan(0);
  });
});
