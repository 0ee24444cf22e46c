import { expect, setDefaultTimeout } from "bun:test";
import { jetstreamManager, StorageType } from "@nats-io/jetstream";
import { type ConnectionOptions, connect, type NatsConnection } from "@nats-io/transport-node";
import { untilDone, within } from "../support/deadline.ts";
import { expandVariables, findManifest, readCompose, readComposeFile } from "../support/manifests.ts";
import { NatsServer } from "../support/nats-server.ts";
import { needs } from "../support/programs.ts";
import { unusedPort } from "../support/raw-backend.ts";

const { afterAll, beforeAll, describe, test } = needs("nats-server");

/** NATS as the deployments configure it: the real server reads their files. */
setDefaultTimeout(60_000);

/** A password that nats-server would take for a number if it had no quotes. */
const PASSWORD = "12e5";
const ROUTE_PASSWORD = "34e5";

/** A test's server keeps its streams elsewhere, and that of Debian refuses a key that 2.10 has brought. */
const OWN_FOLDER = { 'store_dir: "/data"': "", "sync_interval: always": "" };

/** Connects once, without trying again. */
function login(server: NatsServer, as: ConnectionOptions): Promise<NatsConnection> {
  return connect({ servers: server.url, reconnect: false, ...as });
}

async function expectOnlyHubwire(server: NatsServer): Promise<void> {
  const refused: readonly ConnectionOptions[] = [
    {},
    { user: "hubwire", pass: "" },
    { user: "hubwire", pass: `"${PASSWORD}"` },
    { user: "route", pass: ROUTE_PASSWORD },
  ];
  for (const as of refused) await expect(login(server, as)).rejects.toThrow("Authorization Violation");
  const connection = await login(server, { user: "hubwire", pass: PASSWORD });
  await connection.close();
}

/** Replaces a text that must be there. */
function exchange(text: string, changes: Readonly<Record<string, string>>): string {
  return Object.entries(changes).reduce((changed, [from, to]) => {
    if (!changed.includes(from)) throw new Error(`there is no ${from}`);
    return changed.replaceAll(from, to);
  }, text);
}

test("every file for a NATS of 2.10 or newer has each write synced before it is acknowledged", () => {
  const [container] = findManifest("StatefulSet", "nats").spec.template.spec.containers;
  const files = [
    [readCompose().services["nats"]?.image, readComposeFile("nats.conf")],
    [container.image, findManifest("ConfigMap", "nats").data["nats.conf"]],
  ] as const;
  for (const [image = "", text = ""] of files) {
    const [, major, minor] = /^nats:(\d+)\.(\d+)/.exec(image) ?? [];
    expect(Number(major) * 100 + Number(minor)).toBeGreaterThanOrEqual(210);
    expect(text).toMatch(/^ *sync_interval: always$/m);
  }
});

test("the server of compose.yaml lets in hubwire with its password, nobody else, and keeps streams", async () => {
  const { environment = {} } = readCompose().services["nats"] ?? {};
  const [given = ""] = Object.values(environment);
  const quoted = given.replace(/\$\{NATS_PASSWORD:\?[^}]*\}/, PASSWORD);
  await using server = await NatsServer.start({
    config: exchange(readComposeFile("nats.conf"), OWN_FOLDER),
    env: { NATS_PASSWORD: quoted },
  });
  await expectOnlyHubwire(server);
  const connection = await login(server, { user: "hubwire", pass: PASSWORD });
  const streams = (await jetstreamManager(connection)).streams;
  const { config } = await streams.add({ name: "journal", subjects: ["journal"], storage: StorageType.File });
  expect(config.storage).toBe(StorageType.File);
  await connection.close();
});

describe("the three servers of Kubernetes", () => {
  const servers: NatsServer[] = [];
  const monitors: number[] = [];
  const { containers } = findManifest("StatefulSet", "nats").spec.template.spec;
  const [container] = containers;

  beforeAll(async () => {
    const conf = findManifest("ConfigMap", "nats").data["nats.conf"] ?? "";
    const routes = [await unusedPort(), await unusedPort(), await unusedPort()];
    for (const [i, route] of routes.entries()) {
      const secret = { "nats-password": PASSWORD, "nats-route-password": ROUTE_PASSWORD };
      const env = expandVariables(container, `nats-${i}`, secret);
      const names = Object.fromEntries(routes.map((port, of) => [`nats-${of}.nats:6222`, `127.0.0.1:${port}`]));
      const monitor = await unusedPort();
      const config = exchange(conf, {
        "0.0.0.0:4222": "127.0.0.1:4222",
        "0.0.0.0:6222": `127.0.0.1:${route}`,
        "0.0.0.0:8222": `127.0.0.1:${monitor}`,
        'pid_file: "/run/nats/nats.pid"': "",
        ...OWN_FOLDER,
      });
      monitors.push(monitor);
      servers.push(
        await NatsServer.start({ config, env: { ...env, NATS_ROUTES: exchange(env["NATS_ROUTES"] ?? "", names) } }),
      );
    }
  });

  afterAll(async () => {
    await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
  });

  test("find each other by their password, keep a stream three times, and their probes answer", async () => {
    const [server] = servers as [NatsServer];
    const connection = await login(server, { user: "hubwire", pass: PASSWORD });
    // Until the three have a leader, nothing is kept.
    const manager = await within(
      untilDone(() => jetstreamManager(connection)),
      "JetStream",
    );
    const add = () => manager.streams.add({ name: "journal", subjects: ["journal"], num_replicas: 3 });
    const { cluster } = await within(untilDone(add), "a stream kept three times");
    expect([cluster?.leader, ...(cluster?.replicas ?? []).map(({ name }) => name)].toSorted()).toEqual([
      "nats-0",
      "nats-1",
      "nats-2",
    ]);
    await connection.close();
    const paths = [container.startupProbe, container.readinessProbe, container.livenessProbe].map(
      ({ httpGet }) => httpGet?.path,
    );
    expect(paths).toHaveLength(3);
    for (const port of monitors) {
      for (const path of paths) {
        const healthy = async () => expect((await fetch(`http://127.0.0.1:${port}${path}`)).status).toBe(200);
        await within(untilDone(healthy), `200 of ${path}`);
      }
    }
  });

  test("let in hubwire, and nobody else", async () => {
    for (const server of servers) await expectOnlyHubwire(server);
  });
});
