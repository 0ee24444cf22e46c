import { expect, setDefaultTimeout } from "bun:test";
import { startTestGateway, type TestGateway } from "../support/gateway.ts";
import { readComposeFile } from "../support/manifests.ts";
import { Nginx } from "../support/nginx.ts";
import { spelledSends } from "../support/path-spellings.ts";
import { needs } from "../support/programs.ts";
import { acceptAs, RawBackend, unusedPort } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { audienceOf, RestClient, restToken } from "../support/rest-client.ts";

const { afterEach, beforeEach, describe, test } = needs("nginx");

/** compose.yaml's nginx.conf in a real nginx, before three gateways: only addresses and folders are the test's. */
setDefaultTimeout(60_000);

interface Balancer {
  readonly port: number;
  readonly apiPort: number;
  readonly nginx: Nginx;
}

async function startBalancer(nodes: readonly TestGateway[]): Promise<Balancer> {
  const [port, apiPort] = [await unusedPort(), await unusedPort()];
  const nodeAt = (position: string) => nodes[Number(position) - 1];
  const text = readComposeFile("nginx.conf")
    .replace("listen 8080;", `listen 127.0.0.1:${port};`)
    .replace("listen 8081;", `listen 127.0.0.1:${apiPort};`)
    .replace(/172\.28\.77\.1([123]):8080/g, (_, node: string) => `127.0.0.1:${nodeAt(node)?.port}`)
    .replace(/172\.28\.77\.1([123]):8081/g, (_, node: string) => `127.0.0.1:${nodeAt(node)?.apiPort}`);
  return { port, apiPort, nginx: await Nginx.start(text, port) };
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
    const listen = { host: "127.0.0.1", port: 0, api: { port: 0 } };
    const start = () => startTestGateway({ listen, upstreams, trustedProxies: ["127.0.0.1"] });
    nodes = [await start(), await start(), await start()];
    balancer = await startBalancer(nodes);
  });

  afterEach(async () => {
    await balancer.nginx[Symbol.asyncDispose]();
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

  test("the backend reaches the REST API by its own port, and no spelling of a path reaches it by the clients'", async () => {
    backend.onConnect = acceptAs("alice");
    // Each node is a gateway of its own here, so that all have a client.
    const clients = await Promise.all(nodes.map(() => RawWebSocket.open({ port: balancer.port })));
    for (const { target, meant } of spelledSends(`127.0.0.1:${balancer.port}`)) {
      const token = restToken(audienceOf(balancer.port, meant));
      using toClients = await RestClient.dial(balancer.port);
      const request = { method: "POST", target, type: "text/plain", body: target, token };
      expect([target, [400, 404]]).toEqual([target, expect.arrayContaining([(await toClients.call(request)).status])]);
    }
    for (let node = 0; node < nodes.length; node++) {
      using toApi = await RestClient.dial(balancer.apiPort);
      const request = { method: "POST", target: "/ws/api/hubs/chat/messages", type: "text/plain", body: "to all" };
      expect((await toApi.call(request)).status).toBe(202);
    }
    for (const client of clients) {
      expect(await client.nextText()).toBe("to all");
      client.destroy();
    }
    const atApi = await RawWebSocket.request({ port: balancer.apiPort });
    expect((await atApi.answer()).status).toBe(404);
    atApi.destroy();
    expect(await healthOf(balancer.apiPort)).toBe(200);
  });

  test("the log has the path of a request, and no token", async () => {
    const path = "/ws/client/hubs/chat?access_token=not.a.token";
    const refused = await RawWebSocket.request({ port: balancer.port, path });
    expect((await refused.answer()).status).toBe(401);
    refused.destroy();
    await balancer.nginx.stop();
    const log = balancer.nginx.log("access.log");
    expect(log).toContain('"GET /ws/client/hubs/chat" 401');
    expect(log + balancer.nginx.log("error.log")).not.toContain("not.a.token");
  });
});
