import { describe, expect, test } from "bun:test";
import { faultsOf } from "../../test/support/config-faults.ts";
import { countReplicas } from "./cluster-schema.ts";
import { hubConfig, parseConfig } from "./load.ts";

const FILES = { certFile: "c.pem", keyFile: "k.pem" };

describe("the TLS listener", () => {
  for (const clientCert of ["optional", "require"] as const) {
    test(`needs a client CA when certificates are ${clientCert}`, () => {
      const missing = ["listen.tls.clientCaFile: is required when clientCert is not none"];
      expect(faultsOf({ listen: { tls: { ...FILES, clientCert } } })).toEqual(missing);
      expect(faultsOf({ listen: { tls: { ...FILES, clientCert, clientCaFile: "ca.pem" } } })).toEqual([]);
    });
  }

  for (const clientCert of ["none", undefined] as const) {
    test(`refuses a client CA that nobody is asked for (clientCert ${clientCert})`, () => {
      const tls = { ...FILES, clientCaFile: "ca.pem", ...(clientCert === undefined ? {} : { clientCert }) };
      expect(faultsOf({ listen: { tls } })).toHaveLength(1);
      expect(faultsOf({ listen: { tls } })[0]).toStartWith("listen.tls.clientCert: must be optional or require");
    });
  }
});

test("a port cannot be shared where client certificates are asked for", () => {
  const tls = { ...FILES, clientCert: "require", clientCaFile: "ca.pem" };
  const fault =
    "listen.reusePort: is not supported together with client certificates: set reusePort to false, or clientCert to none";
  expect(faultsOf({ listen: { reusePort: true, tls } })).toEqual([fault]);
  expect(faultsOf({ listen: { reusePort: true, tls: FILES } })).toEqual([]);
});

describe("the REST API's own listener", () => {
  const FAULT =
    "listen.api.port: must differ from listen.port, unless both hosts are IP addresses that differ, and neither is 0.0.0.0 or ::";

  const clashes: readonly (readonly [string, Readonly<Record<string, unknown>>])[] = [
    [
      "host and port are those of the public one",
      { host: "10.0.0.1", port: 9000, api: { host: "10.0.0.1", port: 9000 } },
    ],
    ["both hosts are left out", { port: 9000, api: { port: 9000 } }],
    ["all is left out", { api: { port: 8080 } }],
    ["the public one is on every interface", { host: "0.0.0.0", api: { host: "127.0.0.1", port: 8080 } }],
    ["the API's is on every interface", { api: { host: "::", port: 8080 } }],
    ["it is on every interface in a long spelling", { api: { host: "0:0:0:0:0:0:0:0", port: 8080 } }],
    ["it is on every interface, mapped", { host: "10.0.0.1", api: { host: "::ffff:0.0.0.0", port: 8080 } }],
    ["both are one address in two spellings", { host: "::1", api: { host: "0:0:0:0:0:0:0:1", port: 8080 } }],
    ["one is the other, mapped", { api: { host: "::ffff:127.0.0.1", port: 8080 } }],
    ["a name may be the other's address", { api: { host: "localhost", port: 8080 } }],
    ["a name may be any address", { host: "gateway.example", api: { host: "10.0.0.1", port: 8080 } }],
    ["the port may be shared", { reusePort: true, api: { port: 8080 } }],
  ];
  test.each(clashes)("may not have the public one's port where %s", (_why, listen) => {
    expect(faultsOf({ listen })).toEqual([FAULT]);
  });

  const fine: readonly (readonly [string, Readonly<Record<string, unknown>>])[] = [
    ["another port", { api: { port: 8081 } }],
    ["another port of a name", { host: "localhost", api: { host: "localhost", port: 8081 } }],
    ["the same port of another address", { host: "10.0.0.1", api: { host: "127.0.0.1", port: 8080 } }],
    ["the same port of another IPv6 address", { host: "::1", api: { host: "fd00::1", port: 8080 } }],
    ["two ports that the system chooses", { port: 0, api: { port: 0 } }],
    ["none", { api: null }],
  ];
  test.each(fine)("may have %s", (_what, listen) => {
    expect(faultsOf({ listen })).toEqual([]);
  });

  test("must have a valid port; without one there is one fault", () => {
    expect(faultsOf({ listen: { api: {} } })).toEqual(["listen.api.port: is required"]);
    expect(faultsOf({ listen: { api: { port: "8080" } } })).toEqual(["listen.api.port: must be a number"]);
    expect(faultsOf({ listen: { api: { port: 70_000 } } })).toEqual(["listen.api.port: must be at most 65535"]);
    expect(faultsOf({ listen: { api: { prot: 1, port: 1 } } })).toEqual([
      "listen.api.prot: no such key; did you mean `port`?",
    ]);
  });
});

test("a wrong clientCert is one fault, not two", () => {
  const tls = { ...FILES, clientCaFile: "ca.pem", clientCert: "maybe" };
  expect(faultsOf({ listen: { tls } })).toEqual(["listen.tls.clientCert: must be none, optional or require"]);
});

test("clientCertHeader needs trusted proxies, since anyone could send it otherwise", () => {
  const fault = ["clientCertHeader: needs trustedProxies: only trusted proxies may set this header"];
  expect(faultsOf({ clientCertHeader: "X-Cert" })).toEqual(fault);
  expect(faultsOf({ clientCertHeader: "X-Cert", trustedProxies: [] })).toEqual(fault);
  expect(faultsOf({ clientCertHeader: "X-Cert", trustedProxies: ["10.0.0.1"] })).toEqual([]);
  expect(faultsOf({ clientCertHeader: "X Cert", trustedProxies: ["10.0.0.1"] })).toEqual([
    "clientCertHeader: must be a header's name",
  ]);
});

test("a secondary key needs a primary one", () => {
  const fault = ["accessKeys.secondary: needs accessKeys.primary too"];
  expect(faultsOf({ accessKeys: { secondary: "b" } })).toEqual(fault);
  expect(faultsOf({ accessKeys: { secondary: "b", primary: null } })).toEqual(fault);
  expect(faultsOf({ accessKeys: { secondary: "b", primary: "a" } })).toEqual([]);
  expect(faultsOf({ accessKeys: { primary: "" } })).toEqual(["accessKeys.primary: must not be empty"]);
});

describe("hubs", () => {
  test("two names that differ in case only are one hub twice", () => {
    const fault = ["hubs.CHAT: is given twice: hub names are case-insensitive"];
    expect(faultsOf({ hubs: { chat: {}, CHAT: {} } })).toEqual(fault);
  });

  test("are written as hubs writes them, else as a pattern does, else in lower case", () => {
    const spellings = (tree: object) => Object.entries(parseConfig(tree).hubSpellings);
    expect(spellings({ hubs: { ChaT: {}, news: {} } })).toEqual([
      ["chat", "ChaT"],
      ["news", "news"],
    ]);
    const entry = (hubPattern: string | readonly string[]) => ({ hubPattern, urlTemplate: "http://h/" });
    expect(
      spellings({ hubs: { ChaT: {} }, upstreams: [entry("NEWS, ChaT"), entry(["A,b", "NEWS"]), entry("*")] }),
    ).toEqual([
      ["chat", "ChaT"],
      ["news", "NEWS"],
      ["a,b", "A,b"],
    ]);
    expect(spellings({ templates: [entry("ChaT")] })).toEqual([["chat", "ChaT"]]);
    expect(spellings({ hubs: { _Default: {} }, upstreams: [entry("_DEFAULT")] })).toEqual([]);
  });

  test("are written in one way wherever they are named, since events carry one", () => {
    const entry = (hubPattern: string | readonly string[]) => ({ hubPattern, urlTemplate: "http://h/" });
    const fault = (place: string, what: string) =>
      `${place}: writes a hub in ${what}: events carry one spelling of a hub, so write it in one way everywhere`;
    expect(faultsOf({ hubs: { Chat: {} }, upstreams: [entry("*"), entry("news,chat")] })).toEqual([
      fault("upstreams[1].hubPattern", "another case than hubs.Chat"),
    ]);
    expect(faultsOf({ upstreams: [entry("Chat"), entry(["CHAT"]), entry("chat"), entry("Chat")] })).toEqual([
      fault("upstreams[1].hubPattern", "another case than upstreams[0].hubPattern"),
      fault("upstreams[2].hubPattern", "another case than upstreams[0].hubPattern"),
    ]);
    expect(faultsOf({ templates: [entry("Chat,chat")] })).toEqual([fault("templates[0].hubPattern", "two ways")]);
    expect(faultsOf({ hubs: { Chat: {} }, upstreams: [entry("Chat"), entry(["*", "chat"])] })).toEqual([]);
  });

  test("names must be hub names", () => {
    for (const name of ["1chat", "a b", "", "a-b", "*"]) {
      expect(faultsOf({ hubs: { [name]: {} } })).toEqual([expect.stringContaining("is not a valid hub name")]);
    }
    for (const name of ["_default", "a.b,c[0]", "A"]) expect(faultsOf({ hubs: { [name]: {} } })).toEqual([]);
  });

  test("a hub takes from the top level what it leaves out, with its name in any case", () => {
    const config = parseConfig({
      anonymous: "deny",
      allowedOrigins: ["https://A.example"],
      websocket: { compression: true },
      hubs: {
        Chat: { anonymous: "allow" },
        news: { allowedOrigins: ["https://b.example"] },
        old: { compression: false },
      },
    });
    const common = { anonymous: "deny", allowedOrigins: ["https://a.example"], compression: true } as const;
    expect(hubConfig(config, "cHAT")).toEqual({ ...common, anonymous: "allow" });
    expect(hubConfig(config, "news")).toEqual({ ...common, allowedOrigins: ["https://b.example"] });
    expect(hubConfig(config, "OLD")).toEqual({ ...common, compression: false });
    expect(hubConfig(config, "other")).toEqual(common);
  });

  test("a hub named like something every object has is a hub like any other", () => {
    const config = parseConfig({ anonymous: "deny" });
    for (const hub of ["constructor", "toString", "valueOf"]) expect(hubConfig(config, hub).anonymous).toBe("deny");
  });
});

describe("upstreams", () => {
  const entry = (more: object) => ({ upstreams: [{ urlTemplate: "https://h/", ...more }] });

  test("a client certificate and its key come together", () => {
    const [noKey, noCert] = [entry({ tls: { certFile: "c" } }), entry({ tls: { keyFile: "k" } })];
    expect(faultsOf(noKey)).toEqual(["upstreams[0].tls.keyFile: is required when certFile is given"]);
    expect(faultsOf(noCert)).toEqual(["upstreams[0].tls.certFile: is required when keyFile is given"]);
    expect(faultsOf(entry({ tls: { certFile: "c", keyFile: "k", caFile: "a" } }))).toEqual([]);
  });

  test("patterns are normalised", () => {
    const config = parseConfig(entry({ hubPattern: "a, b", eventPattern: ["connect"], categoryPattern: "*,messages" }));
    expect(config.upstreams[0]).toMatchObject({
      hubPattern: ["a", "b"],
      eventPattern: ["connect"],
      categoryPattern: "*",
    });
  });

  for (const name of [
    "Host",
    "content-type",
    "Content-Length",
    "X-ASRS-Hub",
    "x-hubwire-event-id",
    "Connection",
    "Transfer-Encoding",
    "upgrade",
    "Date",
    "Expect",
    "X-Forwarded-For",
    "Accept-Encoding",
    "Sec-WebSocket-Protocol",
  ]) {
    test(`a static header cannot be ${name}`, () => {
      expect(faultsOf(entry({ auth: { type: "headers", headers: { [name]: "v" } } }))).toEqual([
        `upstreams[0].auth.headers.${name}: is a header that hubwire sets, or a hop-by-hop header: remove it`,
      ]);
    });
  }

  test("static headers are names and values that cannot end their line", () => {
    const faults = (headers: object) => faultsOf(entry({ auth: { type: "headers", headers } }));
    expect(faults({ "x-functions-key": "k", Authorization: "Basic ä\tö" })).toEqual([]);
    expect(faults({ "A B": "v" })).toEqual(['upstreams[0].auth.headers["A B"]: is not a valid header name']);
    for (const value of ["a\r\nb", "a\nb", "a\rb", "a\0b", "\x7f"]) {
      expect(faults({ A: value })).toEqual([
        "upstreams[0].auth.headers.A: must not contain CR, LF or other control characters",
      ]);
    }
    expect(faults({ "X-A": "1", "x-a": "2" })).toEqual([
      "upstreams[0].auth.headers: has two names that differ only in case: keep one",
    ]);
  });

  test("each form of authentication needs its keys", () => {
    const faults = (auth: object) => faultsOf(entry({ auth }));
    expect(faults({ type: "none" })).toEqual([]);
    expect(faults({ type: "headers" })).toEqual(["upstreams[0].auth.headers: is required"]);
    expect(faults({ type: "managedIdentity" })).toEqual(["upstreams[0].auth.resource: is required"]);
    expect(faults({ type: "oauth2", tokenUrl: "https://id/", clientId: "a", clientSecret: "b" })).toEqual([]);
    expect(faults({ type: "oauth2", tokenUrl: "id" })).toEqual([
      "upstreams[0].auth.tokenUrl: must be an absolute URL that starts with http://, https://",
      "upstreams[0].auth.clientId: is required",
      "upstreams[0].auth.clientSecret: is required",
    ]);
    expect(faults({ type: "basic" })).toEqual([
      "upstreams[0].auth.type: must be none, headers, oauth2 or managedIdentity",
    ]);
  });
});

describe("a cluster", () => {
  const tree = (nats: object) => ({ accessKeys: { primary: "k" }, cluster: { nats: { servers: ["h"], ...nats } } });

  test("has the documented defaults", () => {
    expect(parseConfig(tree({})).cluster).toEqual({
      nats: {
        servers: ["h"],
        user: null,
        password: null,
        token: null,
        credsFile: null,
        tls: null,
        subjectPrefix: "hubwire",
        replicas: null,
      },
      journalCopy: "wait",
    });
    expect(parseConfig(tree({ tls: {} })).cluster?.nats.tls).toEqual({ caFile: null, certFile: null, keyFile: null });
  });

  test("needs keys, since every node must have the same", () => {
    const { cluster } = tree({});
    const fault = "accessKeys.primary: is required in a cluster: every node needs the same key";
    expect(faultsOf({ cluster })).toEqual([fault]);
    expect(faultsOf({ cluster, accessKeys: { primary: null } })).toEqual([fault]);
    expect(faultsOf({ cluster: null })).toEqual([]);
  });

  test("logs in one way", () => {
    const faults = (nats: object) => faultsOf(tree(nats));
    const both = (name: string, first: string) =>
      `cluster.nats.${name}: cannot be combined with ${first}: choose one way to log in`;
    expect(faults({ user: "u", password: "p" })).toEqual([]);
    expect(faults({ token: "t" })).toEqual([]);
    expect(faults({ credsFile: "f" })).toEqual([]);
    expect(faults({ user: "u" })).toEqual(["cluster.nats.password: is required when user is given"]);
    expect(faults({ password: "p" })).toEqual(["cluster.nats.user: is required when password is given"]);
    expect(faults({ user: "u", password: "p", token: "t" })).toEqual([both("token", "user")]);
    expect(faults({ token: "t", credsFile: "f" })).toEqual([both("credsFile", "token")]);
    expect(faults({ user: "u", password: "p", token: "t", credsFile: "f" })).toEqual([
      both("token", "user"),
      both("credsFile", "user"),
    ]);
  });

  test("a client certificate and its key come together", () => {
    expect(faultsOf(tree({ tls: { certFile: "c" } }))).toEqual([
      "cluster.nats.tls.keyFile: is required when certFile is given",
    ]);
    expect(faultsOf(tree({ tls: { keyFile: "k" } }))).toEqual([
      "cluster.nats.tls.certFile: is required when keyFile is given",
    ]);
    expect(faultsOf(tree({ tls: { certFile: "c", keyFile: "k" } }))).toEqual([]);
  });

  test("names what is its own by 1 to 64 letters that NATS takes in every name", () => {
    const fault = ["cluster.nats.subjectPrefix: must be 1 to 64 of A-Z a-z 0-9 _ -"];
    for (const good of ["a", "A-z_9", "x".repeat(64)]) expect(faultsOf(tree({ subjectPrefix: good }))).toEqual([]);
    for (const bad of ["x".repeat(65), "a.b", "a b", "*", ">", "ä", "a\n"]) {
      expect(faultsOf(tree({ subjectPrefix: bad }))).toEqual(fault);
    }
  });

  test("keeps streams on three servers, on fewer where fewer are listed, or as it is told", () => {
    const replicas = (servers: readonly string[], replicas: number | null) => countReplicas({ servers, replicas });
    expect(replicas(["a"], null)).toBe(1);
    expect(replicas(["a", "b", "c"], null)).toBe(3);
    expect(replicas(["a", "b", "c", "d"], null)).toBe(3);
    expect(replicas(["a"], 5)).toBe(5);
  });
});

describe("templates, the hosted service's name for upstreams", () => {
  test("are read as upstreams", () => {
    expect(parseConfig({ templates: [{ hubPattern: "a", urlTemplate: "http://h/" }] }).upstreams).toMatchObject([
      { hubPattern: ["a"], urlTemplate: "http://h/" },
    ]);
  });

  test("faults name them as they were written", () => {
    expect(faultsOf({ templates: [{ urlTemplate: "http://h/", timeout: 1 }] })).toEqual([
      "templates[0].timeout: no such key; did you mean `timeoutMs`?",
    ]);
  });

  test("cannot be used together with upstreams", () => {
    expect(faultsOf({ templates: [], upstreams: [] })).toEqual([
      "templates: is another name for upstreams: give only one of them",
    ]);
  });
});

test("an upstream's host must be listed where allowedUpstreamHosts is not `*`", () => {
  const allowedUpstreamHosts = ["a.example"];
  expect(faultsOf({ allowedUpstreamHosts, upstreams: [{ urlTemplate: "http://a.example/" }] })).toEqual([]);
  expect(faultsOf({ allowedUpstreamHosts, upstreams: [{ urlTemplate: "http://b.example/" }] })).toEqual([
    "upstreams[0].urlTemplate: its host is not listed in allowedUpstreamHosts",
  ]);
});

test("a wrong type elsewhere hides none of the rules", () => {
  expect(faultsOf({ listen: { port: "x" }, accessKeys: { secondary: "b" }, clientCertHeader: "X" })).toHaveLength(3);
});
