import { afterAll, afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { untilDone, within } from "../support/deadline.ts";
import { startTestGateway, type TestGateway } from "../support/gateway.ts";
import { readComposeFile } from "../support/manifests.ts";
import { acceptAs, RawBackend, unusedPort } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";

/** compose.yaml's nginx.conf in a real nginx, before three gateways: only addresses and folders are the test's. */
setDefaultTimeout(60_000);

const TEMPORARY = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];

const folder = mkdtempSync(join(tmpdir(), "hubwire-balancer-"));
// nginx's workers give up root.
chmodSync(folder, 0o755);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Balancer {
  readonly port: number;
  stop(): Promise<void>;
}

async function startBalancer(nodes: readonly { readonly port: number }[]): Promise<Balancer> {
  const port = await unusedPort();
  const folders = TEMPORARY.map((name) => `${name}_temp_path ${join(folder, name)};`).join(" ");
  const text = readComposeFile("nginx.conf")
    .replace("listen 8080;", `listen 127.0.0.1:${port};`)
    .replace("access_log /dev/stdout", `access_log ${join(folder, "access.log")}`)
    .replace("error_log /dev/stderr", `error_log ${join(folder, "error.log")}`)
    .replace("http {", `http { ${folders}`)
    .replace(/172\.28\.77\.1([123]):8080/g, (_, node: string) => `127.0.0.1:${nodes[Number(node) - 1]?.port}`);
  const file = join(folder, "nginx.conf");
  writeFileSync(file, text);
  const own = `daemon off; pid ${join(folder, "pid")};`;
  const child = spawn("nginx", ["-c", file, "-e", join(folder, "start.log"), "-g", own], {
    stdio: "ignore",
    env: { ...process.env, PATH: [process.env["PATH"], "/usr/sbin"].filter(Boolean).join(delimiter) },
  });
  const stop = () => end(child);
  try {
    await within(Promise.race([untilDone(() => healthOf(port)), refuseToEnd(child)]), "nginx to listen");
  } catch (fault) {
    await stop();
    throw fault;
  }
  return { port, stop };
}

async function refuseToEnd(child: ChildProcess): Promise<never> {
  await once(child, "exit");
  throw new Error(`nginx has ended: ${readFileSync(join(folder, "start.log"), "utf8")}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  await within(ended, "nginx to end");
}

async function healthOf(port: number): Promise<number> {
  return (await fetch(`http://127.0.0.1:${port}/api/health`)).status;
}

describe("nginx before three nodes", () => {
  let backend: RawBackend;
  let nodes: readonly [TestGateway, TestGateway, TestGateway];
  let balancer: Balancer;

  beforeEach(async () => {
    backend = await RawBackend.start();
    const upstreams = [{ urlTemplate: `${backend.url}/{hub}/api/{event}` }];
    const start = () => startTestGateway({ upstreams, trustedProxies: ["127.0.0.1"] });
    nodes = [await start(), await start(), await start()];
    balancer = await startBalancer(nodes);
  });

  afterEach(async () => {
    await balancer.stop();
    for (const node of nodes) await node[Symbol.asyncDispose]();
    await backend.stop();
  });

  test("a client is upgraded, sends, gets its answer, and ends with its own code", async () => {
    const lines = ["X-Forwarded-For: 203.0.113.7"];
    const client = await RawWebSocket.open({ port: balancer.port, localAddress: "127.0.0.9", lines });
    const connect = await backend.next("connect");
    // What the client says of itself is gone, and what nginx says is believed: it comes first, then nginx itself.
    expect(connect.header("X-Forwarded-For")).toBe("127.0.0.9, 127.0.0.1");
    client.text("hello");
    expect(await client.nextText()).toBe("hello");
    client.close(4001, "enough");
    expect((await backend.next("disconnect")).header("X-Hubwire-Close-Code")).toBe("4001");
    client.destroy();
  });

  test("clients spread over all nodes, and go to those that are left when one ends", async () => {
    backend.onConnect = acceptAs("alice", ["X-ASRS-Connection-Group: all"]);
    const clients: RawWebSocket[] = [];
    const open = async () => clients.push(await RawWebSocket.open({ port: balancer.port }));
    const counts = () => nodes.map((node) => node.groupMembers("chat", "all").length);
    for (let i = 0; i < 6; i++) await open();
    expect(counts()).toEqual([2, 2, 2]);
    await nodes[0].stop();
    for (let i = 0; i < 6; i++) await open();
    expect(counts()).toEqual([0, 5, 5]);
    expect(await healthOf(balancer.port)).toBe(200);
    for (const client of clients) client.destroy();
  });

  test("the log has the path of a request, and no token", async () => {
    const path = "/ws/client/hubs/chat?access_token=not.a.token";
    const refused = await RawWebSocket.request({ port: balancer.port, path });
    expect((await refused.answer()).status).toBe(401);
    refused.destroy();
    await balancer.stop();
    const log = readFileSync(join(folder, "access.log"), "utf8");
    expect(log).toContain('"GET /ws/client/hubs/chat" 401');
    expect(log + readFileSync(join(folder, "error.log"), "utf8")).not.toContain("not.a.token");
  });
});
