import { expect, setDefaultTimeout } from "bun:test";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeCertificates } from "./support/certificates.ts";
import { COMMANDS_TIMEOUT_MS, findFreePort, REPOSITORY, type RunningCommand, startCommand } from "./support/command.ts";
import { untilDone, within } from "./support/deadline.ts";
import { KEYS, type LogLine } from "./support/gateway.ts";
import { NatsServer } from "./support/nats-server.ts";
import { childrenOf, countConnections, isAlive } from "./support/process-tree.ts";
import { needs } from "./support/programs.ts";
import { RawBackend } from "./support/raw-backend.ts";
import { RawWebSocket } from "./support/raw-websocket.ts";
import { RestClient } from "./support/rest-client.ts";
import { expectDone } from "./support/rest-stage.ts";
import { connectionIdOf } from "./support/stack.ts";

const { describe, test } = needs("nats-server", "openssl");

/** `hubwire start --processes N`, and what it relies on: several gateways on one port. */
setDefaultTimeout(COMMANDS_TIMEOUT_MS);

const LAUNCHER = `node ${join(REPOSITORY, "bin", "hubwire.mjs")}`;
const BUN = `${join(REPOSITORY, "node_modules", "bun", "bin", "bun.exe")} --no-env-file ${join(REPOSITORY, "src", "main.ts")}`;
/** So many that all of them go to one of two processes less often than once in 10^18 runs. */
const MANY = 64;
const RESTARTED = "process ended: it is started again";

interface ManyOptions {
  readonly count?: number;
  readonly through?: "launcher" | "bun";
  /** Keys of `listen` other than the port. */
  readonly listen?: Readonly<Record<string, unknown>>;
  /** Laid over the test's configuration. */
  readonly config?: Readonly<Record<string, unknown>>;
}

/** Gateways that share a port, their backend and their NATS. */
class ManyProcesses {
  readonly port: number;
  readonly backend: RawBackend;
  readonly command: RunningCommand;
  readonly dataDir: string;
  readonly exitCode: Promise<number | null>;
  readonly #folder: string;
  readonly #nats: NatsServer;

  private constructor(port: number, backend: RawBackend, nats: NatsServer, { count = 3, ...options }: ManyOptions) {
    this.port = port;
    this.backend = backend;
    this.#nats = nats;
    this.#folder = mkdtempSync(join(tmpdir(), "hubwire-processes-"));
    this.dataDir = join(this.#folder, "data");
    const file = join(this.#folder, "hubwire.json");
    const upstreams = [{ urlTemplate: `${backend.url}/{event}` }];
    const shutdown = { spreadMs: 0, drainTimeoutMs: 10_000 };
    const cluster = { nats: { servers: [nats.url] } };
    const listen = { port, ...options.listen };
    const config = { listen, accessKeys: KEYS, dataDir: this.dataDir, upstreams, shutdown, cluster, ...options.config };
    writeFileSync(file, JSON.stringify(config));
    const words = options.through === "bun" ? BUN : LAUNCHER;
    this.command = startCommand(`exec ${words} start --config ${file} --processes ${count}`);
    this.exitCode = once(this.command.child, "exit").then(([code]) => code as number | null);
  }

  /** Starts them, without waiting for anything. */
  static async launch(options: ManyOptions = {}): Promise<ManyProcesses> {
    const [backend, nats] = await Promise.all([RawBackend.start(), NatsServer.start()]);
    return new ManyProcesses(await findFreePort(), backend, nats, options);
  }

  /** Starts them and waits until all listen. */
  static async start(options: ManyOptions = {}): Promise<ManyProcesses> {
    const many = await ManyProcesses.launch(options);
    try {
      await many.command.printed(/^hubwire listens on /m);
      return many;
    } catch (fault) {
      await many[Symbol.asyncDispose]();
      throw fault;
    }
  }

  /** The process that watches the others. */
  get watcher(): number {
    const { pid = 0 } = this.command.child;
    return childrenOf(pid).length === 1 ? (childrenOf(pid)[0] ?? 0) : pid;
  }

  children(): number[] {
    return childrenOf(this.watcher);
  }

  async open(): Promise<RawWebSocket> {
    return await RawWebSocket.open({ port: this.port });
  }

  /** Connections until each process has one; returns their clients with their ids. */
  async openEverywhere(): Promise<Map<string, RawWebSocket>> {
    const clients = new Map<string, RawWebSocket>();
    while (this.children().some((pid) => countConnections(pid, this.port) === 0)) {
      expect(clients.size).toBeLessThan(500);
      const client = await this.open();
      clients.set(connectionIdOf(await this.backend.next("connect")), client);
    }
    return clients;
  }

  logLines(): LogLine[] {
    const lines = this.command.stderr().split("\n");
    return lines.filter((line) => line.endsWith("}")).map((line) => JSON.parse(line) as LogLine);
  }

  /** Waits until this many lines of the log fit, and returns them. */
  async logged(message: string, count = 1): Promise<LogLine[]> {
    const stream = this.command.child.stderr;
    const found = () => this.logLines().filter(({ msg }) => msg === message);
    const wait = async () => {
      while (found().length < count && stream !== null) await once(stream, "data");
      return found();
    };
    return await within(wait(), `${count} log lines "${message}"`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.command[Symbol.asyncDispose]();
    } finally {
      await Promise.all([this.backend.stop(), this.#nats[Symbol.asyncDispose]()]);
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }
}

describe("listen.reusePort", () => {
  const flags = (port: number, folder: string, name: string) => {
    writeFileSync(join(folder, "hubwire.json"), JSON.stringify({ accessKeys: KEYS }));
    return `--config ${folder}/hubwire.json --listen-port ${port} --data-dir ${folder}/${name}`;
  };
  const isListening = /^hubwire listens on /m;

  test("lets two gateways share a port: both get connections, and the one that is left gets all", async () => {
    const folder = mkdtempSync(join(tmpdir(), "hubwire-reuse-port-"));
    const port = await findFreePort();
    await using one = startCommand(`exec ${BUN} start ${flags(port, folder, "a")} --listen-reuse-port`);
    await using two = startCommand(`exec ${BUN} start ${flags(port, folder, "b")} --listen-reuse-port`);
    await Promise.all([one.printed(isListening), two.printed(isListening)]);
    const dial = () => Promise.all(Array.from({ length: MANY }, () => RawWebSocket.dial({ port })));
    const [first = 0, second = 0] = [one.child.pid, two.child.pid];
    // A connection is its process's once it has been accepted, which an answer proves.
    const answered = async (clients: readonly RawWebSocket[]) => {
      for (const client of clients) client.write("GET /api/health HTTP/1.1\r\nHost: h\r\n\r\n");
      for (const client of clients) expect((await client.answer()).status).toBe(200);
    };
    const clients = await dial();
    await answered(clients);
    const counts = [countConnections(first, port), countConnections(second, port)];
    expect(counts[0]).toBeGreaterThan(0);
    expect(counts[1]).toBeGreaterThan(0);
    expect((counts[0] ?? 0) + (counts[1] ?? 0)).toBe(MANY);
    one.child.kill("SIGKILL");
    await within(one.ended, "the end of the first");
    const later = await dial();
    await answered(later);
    expect(countConnections(second, port)).toBe((counts[1] ?? 0) + MANY);
    for (const client of [...clients, ...later]) client[Symbol.dispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  test("shares with nobody who has not said so", async () => {
    const folder = mkdtempSync(join(tmpdir(), "hubwire-reuse-port-"));
    const port = await findFreePort();
    await using one = startCommand(`exec ${BUN} start ${flags(port, folder, "a")} --listen-reuse-port`);
    await one.printed(isListening);
    await using other = startCommand(`exec ${BUN} start ${flags(port, folder, "b")}`);
    expect(await within(other.ended, "its end")).toBe(1);
    expect(other.stderr()).toContain(String(port));
    rmSync(folder, { recursive: true, force: true });
  });
});

describe("hubwire start --processes", () => {
  test("says once where all listen; each is a gateway with a folder of its own, and each gets connections", async () => {
    await using many = await ManyProcesses.start();
    expect(many.children().length).toBe(3);
    const clients = await many.openEverywhere();
    const [client] = clients.values();
    client?.text("question");
    expect(await client?.nextText()).toBe("question");
    for (const index of [0, 1, 2]) {
      expect(existsSync(join(many.dataDir, `node-${index}`, "journal.sqlite"))).toBe(true);
      expect(statSync(join(many.dataDir, `node-${index}`)).mode & 0o777).toBe(0o700);
    }
    expect(statSync(many.dataDir).mode & 0o777).toBe(0o700);
    expect(many.command.stdout()).toBe(`hubwire listens on http://127.0.0.1:${many.port} with 3 processes\n`);
    const listening = await many.logged("listening", 3);
    expect(listening.map((line) => line["process"]).toSorted()).toEqual([0, 1, 2]);
    for (const one of clients.values()) one[Symbol.dispose]();
  });

  test("shares the port of listen.api too: its calls reach the clients of all, and the clients' port has no API", async () => {
    const api = { port: await findFreePort() };
    await using many = await ManyProcesses.start({ count: 2, listen: { api } });
    const { port } = many;
    const clients = await many.openEverywhere();
    await many.command.printed(/^the REST API is at /m);
    expect(many.command.stdout()).toBe(
      `hubwire listens on http://127.0.0.1:${port} with 2 processes\nthe REST API is at http://127.0.0.1:${api.port}\n`,
    );
    expect(await many.logged("listening", 2)).toMatchObject([
      { apiUrl: `http://127.0.0.1:${api.port}` },
      { apiUrl: `http://127.0.0.1:${api.port}` },
    ]);
    const request = { method: "POST", target: "/ws/api/hubs/chat/messages", type: "text/plain", body: "to all" };
    using toClients = await RestClient.dial(port);
    expect((await toClients.call(request)).status).toBe(404);
    // A node answers 503 until it has heard of the other.
    const send = async () => {
      using caller = await RestClient.dial(api.port);
      expectDone(await caller.call(request), 202);
    };
    await within(untilDone(send), "a send that is taken");
    for (const client of clients.values()) {
      expect(await client.nextText()).toBe("to all");
      client[Symbol.dispose]();
    }
    const calls = await Promise.all(Array.from({ length: MANY }, () => RestClient.dial(api.port)));
    const health = { method: "GET", target: "/api/health", token: null };
    // One node may have taken the send before the other was ready.
    for (const call of calls) {
      await within(
        untilDone(async () => expectDone(await call.call(health), 200)),
        "a node that is ready",
      );
    }
    for (const pid of many.children()) expect(countConnections(pid, api.port)).toBeGreaterThan(0);
    for (const call of calls) call.destroy();
  });

  test("starts a killed one again, later each time; its port answers, its disconnects are sent", async () => {
    await using many = await ManyProcesses.start({ count: 2 });
    const clients = await many.openEverywhere();
    const [victim = 0, other = 0] = many.children();
    const lost = countConnections(victim, many.port);
    process.kill(victim, "SIGKILL");
    const [first] = await many.logged(RESTARTED);
    expect(first).toMatchObject({ level: 40, pid: victim, signal: "SIGKILL", exitCode: null, restartInMs: 500 });
    // The other one alone has the port now.
    (await many.open())[Symbol.dispose]();
    for (let count = 0; count < lost; count++) {
      const disconnect = await many.backend.next("disconnect", (request) => clients.has(connectionIdOf(request)));
      clients.delete(connectionIdOf(disconnect));
    }
    await many.logged("listening", 3);
    const again = many.children().find((pid) => pid !== other) ?? 0;
    expect(again).not.toBe(victim);
    process.kill(again, "SIGKILL");
    const [, second] = await many.logged(RESTARTED, 2);
    expect(second).toMatchObject({ process: first?.["process"], pid: again, restartInMs: 1000 });
    await many.logged("listening", 4);
    const more = await many.openEverywhere();
    for (const client of [...clients.values(), ...more.values()]) client[Symbol.dispose]();
    // Once, for the first start.
    expect(many.command.stdout().match(/listens/g)).toHaveLength(1);
  });

  for (const [through, signal] of [
    ["launcher", "SIGTERM"],
    ["bun", "SIGINT"],
  ] as const) {
    test(`through ${through}, ${signal} ends all with 0, each after its clients`, async () => {
      await using many = await ManyProcesses.start({ count: 2, through });
      const clients = await many.openEverywhere();
      many.command.child.kill(signal);
      for (const [id, client] of clients) {
        expect((await client.closed()).code).toBe(1012);
        await many.backend.next("disconnect", (request) => connectionIdOf(request) === id);
      }
      expect(await within(many.command.ended, "the end of all")).toBe(0);
      expect(many.logLines().filter(({ msg }) => msg === RESTARTED)).toEqual([]);
      expect((await many.logged("stopping", 2)).map(({ why }) => why)).toEqual([signal, signal]);
    });
  }

  test("SIGHUP makes each read the file again", async () => {
    await using many = await ManyProcesses.start({ count: 2 });
    many.command.child.kill("SIGHUP");
    const reloaded = await many.logged("configuration reloaded", 2);
    expect(reloaded.map((line) => line["process"]).toSorted()).toEqual([0, 1]);
    expect(reloaded).toMatchObject([{ why: "SIGHUP" }, { why: "SIGHUP" }]);
  });

  test("SIGHUP while they start ends none of them: each reads the file again when it listens", async () => {
    await using many = await ManyProcesses.launch({ count: 2, through: "bun" });
    const started = async () => {
      while (many.children().length < 2) await Bun.sleep(1);
    };
    await within(started(), "both processes");
    many.command.child.kill("SIGHUP");
    await many.command.printed(/^hubwire listens on /m);
    await many.logged("configuration reloaded", 2);
    expect(many.logLines().filter(({ msg }) => msg === RESTARTED)).toEqual([]);
  });

  test("one that is killed while all end is not started again, and the exit code is 1", async () => {
    const shutdown = { delayMs: 300_000, drainTimeoutMs: 300_000 };
    await using many = await ManyProcesses.start({ count: 2, config: { shutdown } });
    const [victim = 0] = many.children();
    many.command.child.kill("SIGTERM");
    await many.logged("stopping", 2);
    process.kill(victim, "SIGKILL");
    // A second signal is passed on too: nothing else ends the other one in this time.
    many.command.child.kill("SIGINT");
    expect(await within(many.command.ended, "the end of all")).toBe(1);
    expect(many.logLines().filter(({ msg }) => msg === RESTARTED)).toEqual([]);
  });

  for (const killed of ["the watching process", "the launcher"] as const) {
    test(`all end when ${killed} is killed`, async () => {
      await using many = await ManyProcesses.start({ count: 2 });
      const clients = await many.openEverywhere();
      const children = many.children();
      process.kill(killed === "the launcher" ? (many.command.child.pid ?? 0) : many.watcher, "SIGKILL");
      for (const [id, client] of clients) {
        expect((await client.closed()).code).toBe(1012);
        await many.backend.next("disconnect", (request) => connectionIdOf(request) === id);
      }
      await within(many.command.ended, "the end of all");
      expect(children.filter(isAlive)).toEqual([]);
    });
  }

  test("all end with 1 where one cannot start: its folder is in use", async () => {
    await using many = await ManyProcesses.start({ count: 1 });
    mkdirSync(join(many.dataDir, "node-2"));
    const others = `exec ${BUN} start --config ${join(many.dataDir, "..", "hubwire.json")} --processes 2`;
    await using refused = startCommand(others);
    expect(await within(refused.ended, "their end")).toBe(1);
    expect(refused.stderr()).toContain("node-0 is in use by another hubwire");
    expect(refused.stderr()).toContain('"msg":"process does not start: all end"');
    expect(refused.stdout()).toBe("");
    // What an earlier run has left is told first.
    const [warning] = refused.stderr().split("\n");
    expect(JSON.parse(warning ?? "")).toMatchObject({ level: 40, unused: ["node-2"] });
  });
});

describe("hubwire start --processes refuses", () => {
  const refusal = async (config: object, flags = "") => {
    const folder = mkdtempSync(join(tmpdir(), "hubwire-refused-"));
    const file = join(folder, "hubwire.json");
    writeFileSync(file, JSON.stringify({ accessKeys: KEYS, dataDir: join(folder, "data"), ...config }));
    await using command = startCommand(`exec ${LAUNCHER} start --config ${file} --processes 2 ${flags}`);
    const code = await within(command.ended, "its end");
    expect([command.stdout(), code]).toEqual(["", 2]);
    expect(existsSync(join(folder, "data"))).toBe(false);
    rmSync(folder, { recursive: true, force: true });
    return command.stderr();
  };
  const cluster = { nats: { servers: ["127.0.0.1:1"] } };

  test("a configuration without a cluster", async () => {
    expect(await refusal({})).toBe(
      "hubwire start --processes needs cluster: the processes reach each other's clients over NATS.\n",
    );
  });

  test("a port that the system chooses", async () => {
    const sentence =
      "hubwire start --processes needs a fixed listen.port: with 0 each process would get a port of its own.\n";
    expect(await refusal({ cluster }, "--listen-port 0")).toBe(sentence);
  });

  test("a port of the REST API that the system chooses", async () => {
    const sentence =
      "hubwire start --processes needs a fixed listen.api.port: with 0 each process would get a port of its own.\n";
    expect(await refusal({ cluster }, "--listen-api-port 0")).toBe(sentence);
  });

  test("client certificates", async () => {
    const certificates = makeCertificates();
    const { certFile, keyFile } = certificates.server;
    const tls = { certFile, keyFile, clientCaFile: certificates.authority.certFile, clientCert: "optional" };
    expect(await refusal({ cluster, listen: { tls } })).toBe(
      "hubwire start --processes does not work with client certificates: set listen.tls.clientCert to none, or start one process.\n",
    );
    certificates.remove();
  });

  test("a configuration with a fault, which is told once", async () => {
    const told = await refusal({ cluster, anonymous: "maybe" });
    expect(told.match(/anonymous: must be allow or deny/g)).toHaveLength(1);
  });
});
