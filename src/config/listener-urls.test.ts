import { describe, expect, test } from "bun:test";
import { apiAddress, clientsUrl, describeListeners, listenerUrl } from "./listener-urls.ts";
import { parseConfig } from "./load.ts";
import type { Config } from "./schema.ts";

function configOf(listen: Readonly<Record<string, unknown>>, publicUrls: readonly string[] = []): Config {
  return parseConfig({ listen, publicUrls });
}

describe("a listener's URL", () => {
  const tls = { certFile: "c", keyFile: "k", clientCaFile: null, clientCert: "none" } as const;

  test.each([
    [null, "127.0.0.1", "http://127.0.0.1:1"],
    [tls, "gateway.example", "https://gateway.example:1"],
    [null, "0.0.0.0", "http://127.0.0.1:1"],
    [null, "::", "http://127.0.0.1:1"],
    [null, "fd00::1", "http://[fd00::1]:1"],
  ])("%p %s is %s", (certificate, host, url) => {
    expect(listenerUrl(certificate, host, 1)).toBe(url);
  });
});

describe("without listen.api clients and the REST API have one URL", () => {
  test.each([
    [{}, [], "http://127.0.0.1:8080"],
    [{ host: "::1", port: 9 }, [], "http://[::1]:9"],
    [{}, ["wss://a.example/", "https://b.example"], "https://a.example"],
    [{ port: 0 }, ["http://a.example:9"], "http://a.example:9"],
  ])("%j with %j", (listen, publicUrls, url) => {
    const config = configOf(listen, publicUrls);
    expect(clientsUrl(config)).toBe(url);
    expect(apiAddress(config)).toEqual({ endpoint: url, audience: url });
  });

  test("a port that the system chooses is not known", () => {
    const config = configOf({ port: 0 });
    expect([clientsUrl(config), apiAddress(config)]).toEqual([null, null]);
  });
});

describe("with listen.api", () => {
  const api = { host: "10.0.0.5", port: 9000 };

  test("calls go to its address, with tokens for it where publicUrls is empty", () => {
    const url = "http://10.0.0.5:9000";
    expect(apiAddress(configOf({ api }))).toEqual({ endpoint: url, audience: url });
    expect(clientsUrl(configOf({ api }))).toBe("http://127.0.0.1:8080");
  });

  test("calls go to its address with tokens for a host of publicUrls, whose path says nothing", () => {
    const config = configOf({ api }, ["wss://a.example:444/path/", "https://b.example"]);
    expect(apiAddress(config)).toEqual({ endpoint: "http://10.0.0.5:9000", audience: "https://a.example:444" });
  });

  test("an entry of publicUrls with its port is its URL, and not the clients'", () => {
    const config = configOf({ api }, ["https://api.internal:9000/", "wss://a.example"]);
    expect(apiAddress(config)).toEqual({
      endpoint: "https://api.internal:9000",
      audience: "https://api.internal:9000",
    });
    expect(clientsUrl(config)).toBe("https://a.example");
    expect(clientsUrl(configOf({ api }, ["http://api.internal:9000"]))).toBe("http://127.0.0.1:8080");
  });

  test("where both have one port, the entry with its address is its URL", () => {
    const listen = { host: "10.0.0.4", port: 9000, api };
    const config = configOf(listen, ["http://10.0.0.4:9000", "http://10.0.0.5:9000"]);
    expect(clientsUrl(config)).toBe("http://10.0.0.4:9000");
    expect(apiAddress(config)?.endpoint).toBe("http://10.0.0.5:9000");
  });

  test("a port that the system chooses is not known, with publicUrls too", () => {
    expect(apiAddress(configOf({ api: { port: 0 } }, ["https://a.example"]))).toBeNull();
  });
});

test("a description says where each listener is", () => {
  const tls = { certFile: "c.pem", keyFile: "k.pem" };
  expect(describeListeners(configOf({ host: "::", port: 0 }))).toEqual([
    "clients and the REST API: http://[::], on a free port",
  ]);
  expect(describeListeners(configOf({ host: "0.0.0.0", tls, api: { port: 9000 } }))).toEqual([
    "clients: https://0.0.0.0:8080",
    "the REST API: https://127.0.0.1:9000",
  ]);
});
