import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { within } from "../../test/support/deadline.ts";
import { unusedPort } from "../../test/support/raw-backend.ts";
import {
  bodyOf,
  connectEvent,
  disconnectEvent,
  messageEvent,
  startUpstream,
  upstreamEntry,
} from "./testing/fixture.ts";

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill();
  await exited;
}

/** An HTTP server as Node's own documentation writes it. */
const NODE_SERVER = `
  const http = require("node:http");
  const sockets = new Set();
  const server = http.createServer((request, response) => {
    sockets.add(request.socket);
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => {
      response.setHeader("X-Sockets", sockets.size);
      response.setHeader("X-Event", request.headers["x-asrs-event"] + " " + request.headers["x-asrs-user-id"]);
      if (request.url === "/message") for (const piece of pieces) response.write(piece);
      else response.statusCode = 204;
      response.end();
    });
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
`;

describe("a Node server", () => {
  let child: ChildProcess;
  let url: string;

  beforeAll(async () => {
    child = spawn("node", ["-e", NODE_SERVER], { stdio: ["ignore", "pipe", "inherit"] });
    if (child.stdout === null) throw new Error("the server has no output");
    const [port] = await within(once(createInterface(child.stdout), "line"), "the server's port");
    url = `http://127.0.0.1:${port}`;
  });

  afterAll(() => end(child));

  test("understands all events, answers in chunks, and keeps its socket", async () => {
    await using upstream = startUpstream([upstreamEntry(`${url}/{event}`)]);
    expect(await upstream.call(connectEvent())).toMatchObject({ kind: "answer", status: 204 });
    const payload = new Uint8Array(1_000_000).map((_, index) => index % 251);
    const answer = await upstream.call(messageEvent(payload));
    expect(bodyOf(answer).equals(payload)).toBe(true);
    expect(answer).toMatchObject({ headers: expect.arrayContaining([["Transfer-Encoding", "chunked"]]) });
    expect(await upstream.call(disconnectEvent())).toMatchObject({
      headers: expect.arrayContaining([
        ["X-Sockets", "1"],
        ["X-Event", "disconnect alice"],
      ]),
    });
  });
});

function hasNginx(): boolean {
  try {
    execFileSync("nginx", ["-v"], { stdio: "pipe" });
    return true;
  } catch {
    return false;
  }
}

describe.skipIf(!hasNginx())("nginx", () => {
  let child: ChildProcess;
  let folder: string;
  let url: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "hubwire-nginx-"));
    const port = await unusedPort();
    url = `http://127.0.0.1:${port}`;
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
      .map((name) => `${name}_temp_path ${folder}/${name};`)
      .join(" ");
    const config = `daemon off; pid ${folder}/pid; error_log ${folder}/error.log; events {}
      http { access_log off; ${temporary} client_max_body_size 1k; default_type text/plain;
        server { listen 127.0.0.1:${port}; location / { return 200 "$connection_requests $http_x_asrs_event"; } } }`;
    writeFileSync(join(folder, "nginx.conf"), config);
    child = spawn("nginx", ["-c", join(folder, "nginx.conf"), "-e", join(folder, "error.log")], { stdio: "ignore" });
    await within(listening(port, child), "nginx to listen");
  });

  afterAll(async () => {
    await end(child);
    rmSync(folder, { recursive: true, force: true });
  });

  test("answers, keeps its socket, and refuses a body that is too large", async () => {
    await using upstream = startUpstream([upstreamEntry(`${url}/{event}`)]);
    expect(bodyOf(await upstream.call(connectEvent())).toString()).toBe("1 handshake");
    expect(bodyOf(await upstream.call(disconnectEvent())).toString()).toBe("2 disconnect");
    const large = messageEvent(new Uint8Array(4_000_000));
    expect(await upstream.call(large)).toMatchObject({ kind: "answer", status: 413 });
  });
});

/** Resolves once somebody listens; rejects where the process that should has ended. */
async function listening(port: number, child: ChildProcess): Promise<void> {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}`);
    const socket = connect(port, "127.0.0.1");
    const isOpen = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
    });
    socket.destroy();
    if (isOpen) return;
  }
}
