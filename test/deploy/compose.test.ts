import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { type LoadedConfig, loadConfig } from "../../src/config/load.ts";
import { composeCheck } from "../support/json-schemas.ts";
import { type ComposeService, DEPLOY, readCompose, readComposeFile } from "../support/manifests.ts";

const compose = readCompose();
const nodes = Object.entries(compose.services).filter(([name]) => name.startsWith("hubwire-"));
const nginxConf = readComposeFile("nginx.conf");
/** The variables of .env, as the guide fills them in. */
const VARIABLES: Readonly<Record<string, string>> = { HUBWIRE_ACCESS_KEY: "b".repeat(44), NATS_PASSWORD: "12e5" };

const folder = mkdtempSync(join(tmpdir(), "hubwire-deploy-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The configuration of the nodes, with the variables that compose gives them. */
function loadDeployed(): LoadedConfig {
  const filePath = join(folder, "hubwire.yaml");
  writeFileSync(filePath, readComposeFile("hubwire.yaml"));
  const given = Object.entries(nodes[0]?.[1].environment ?? {});
  const env = given.map(([name, text]) => [
    name,
    text.replace(/\$\{(\w+):\?[^}]*\}/, (_, of: string) => VARIABLES[of] ?? ""),
  ]);
  return loadConfig({ filePath, env: Object.fromEntries(env) as Record<string, string> });
}

type Networks = Exclude<ComposeService["networks"], readonly string[]>;

function addressOf({ networks }: ComposeService): string {
  const gateway = Array.isArray(networks) ? undefined : (networks as Networks)["gateway"];
  return gateway?.ipv4_address ?? "none";
}

/** A number of nginx.conf with its unit, in milliseconds or bytes. */
function nginxValue(name: string): number {
  const [, amount, unit = ""] = new RegExp(`^\\s*${name} (\\d+)([sm]);$`, "m").exec(nginxConf) ?? [];
  return Number(amount) * (name.endsWith("size") ? 1024 * 1024 : unit === "s" ? 1000 : 60_000);
}

describe("compose.yaml", () => {
  const check = composeCheck();

  test("holds by the published schema", () => {
    expect(check(compose)).toEqual([]);
  });

  const broken: readonly (readonly [string, object, string])[] = [
    ["a misspelt field of a service", { services: { nats: { ...compose.services["nats"], volume: [] } } }, "(volume)"],
    ["a misspelt block", { ...compose, service: {} }, "(service)"],
    ["a time without unit", { services: { nats: { stop_grace_period: "30" } } }, "duration"],
    ["a field of Kubernetes", { services: { nats: { env: [] } } }, "(env)"],
    ["a number for a text", { services: { nats: { image: 1 } } }, "/services/nats/image must be string"],
  ];
  test.each(broken)("would be refused: %s", (_what, document, fault) => {
    expect(check(document).join("\n")).toContain(fault);
  });

  test("has three nodes, each with a volume of its own for dataDir", () => {
    const { dataDir } = loadDeployed().config;
    expect(nodes).toHaveLength(3);
    for (const [name, { volumes, image, read_only }] of nodes) {
      expect(volumes).toEqual(["./compose/hubwire.yaml:/etc/hubwire/hubwire.yaml:ro", `${name}:${dataDir}`]);
      expect(Object.keys(compose.volumes)).toContain(name);
      expect(image).toBe(`hubwire:${packageJson.version}`);
      expect(read_only).toBe(true);
    }
  });

  test("lets nobody but the balancer be reached from outside, and nobody but the nodes reach NATS", () => {
    const published = Object.entries(compose.services).filter(([, { ports }]) => ports !== undefined);
    expect(published.map(([name]) => name)).toEqual(["balancer"]);
    const besideNats = Object.entries(compose.services).filter(([, { networks }]) =>
      (Array.isArray(networks) ? networks : Object.keys(networks)).includes("nats"),
    );
    expect(besideNats.map(([name]) => name)).toEqual(["hubwire-1", "hubwire-2", "hubwire-3", "nats"]);
  });

  test("asks for each variable by name; .env.example has them all, empty", () => {
    const text = readFileSync(join(DEPLOY, "compose.yaml"), "utf8");
    const asked = [...text.matchAll(/\$\{(\w+)(:\?)?/g)];
    for (const [, , mandatory] of asked) expect(mandatory).toBe(":?");
    const example = readFileSync(join(DEPLOY, ".env.example"), "utf8");
    const empty = [...example.matchAll(/^(\w+)=$/gm)].map(([, name = ""]) => name);
    expect([...new Set(asked.map(([, name = ""]) => name))].toSorted()).toEqual(empty.toSorted());
    expect(Object.keys(VARIABLES).toSorted()).toEqual(empty.toSorted());
    const guide = readFileSync(join(DEPLOY, "../docs/guides/deploy.md"), "utf8");
    for (const name of empty) expect(guide).toContain(`\n${name}=$(openssl rand `);
  });
});

describe("the nodes' configuration", () => {
  test("is accepted with the variables of compose.yaml, and nothing in it is worth a warning", () => {
    const { config, warnings } = loadDeployed();
    expect(warnings).toEqual([]);
    expect(config.listen.host).toBe("0.0.0.0");
    expect(config.accessKeys.primary).toBe(VARIABLES["HUBWIRE_ACCESS_KEY"] ?? null);
    expect(config.cluster?.nats).toMatchObject({ servers: ["nats://nats:4222"], password: VARIABLES["NATS_PASSWORD"] });
    expect(readComposeFile("nats.conf")).toContain(`user: ${config.cluster?.nats.user}, password: $NATS_PASSWORD`);
  });

  test("is drained before the grace period is over", () => {
    const { delayMs, spreadMs, drainTimeoutMs } = loadDeployed().config.shutdown;
    expect(delayMs + spreadMs).toBeLessThan(drainTimeoutMs);
    for (const [, { stop_grace_period }] of nodes) {
      expect(Number(/^(\d+)s$/.exec(stop_grace_period ?? "")?.[1]) * 1000).toBeGreaterThan(drainTimeoutMs);
    }
  });

  test("trusts the balancer alone, which knows every node by its address", () => {
    const { config } = loadDeployed();
    const { balancer } = compose.services;
    expect(config.trustedProxies).toEqual([balancer ? addressOf(balancer) : "none"]);
    const upstreams = [...nginxConf.matchAll(/^ {2}upstream (\w+) \{(.*?)^ {2}\}/gms)];
    const servers = upstreams.map(([, name, block = ""]) => [
      name,
      [...block.matchAll(/^\s*server ([\d.]+:\d+)/gm)].map(([, server]) => server),
    ]);
    const nodesAt = (port: number | undefined) => nodes.map(([, node]) => `${addressOf(node)}:${port}`);
    const { port, api } = config.listen;
    expect(servers).toEqual([
      ["hubwire", nodesAt(port)],
      ["hubwire_api", nodesAt(api?.port)],
    ]);
  });

  test("has the REST API at a port of its own, which is published on this machine only", () => {
    const { port, api } = loadDeployed().config.listen;
    const listens = [...nginxConf.matchAll(/^\s*listen (\d+);$/gm)].map(([, listened]) => Number(listened));
    expect(listens).toEqual([port, api?.port ?? 0]);
    expect(compose.services["balancer"]?.ports).toEqual(listens.map((listened) => `127.0.0.1:${listened}:${listened}`));
  });
});

test("nginx waits longer than a silent client or a slow backend makes it, and takes the largest message", () => {
  const { websocket, upstreams, limits } = loadDeployed().config;
  const calls = upstreams.map(({ timeoutMs, maxWaitMs }) => timeoutMs + maxWaitMs);
  for (const name of ["proxy_read_timeout", "proxy_send_timeout"]) {
    expect(nginxValue(name)).toBeGreaterThan(websocket.pingAfterMs + websocket.pongTimeoutMs);
    expect(nginxValue(name)).toBeGreaterThan(Math.max(...calls));
  }
  expect(nginxValue("client_max_body_size")).toBeGreaterThanOrEqual(limits.maxMessageBytes);
});
