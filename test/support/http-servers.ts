import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Certificate } from "./certificates.ts";
import { within } from "./deadline.ts";
import { requireProgram } from "./programs.ts";
import { unusedPort } from "./raw-backend.ts";

/** The body of `/large`, 4 MB, counted; its first `CHUNKED_BYTES` are that of `/chunked`, in several chunks. */
export const LARGE_BODY = new Uint8Array(4_000_000).map((_, index) => index % 251);
export const CHUNKED_BYTES = 300_000;

/**
 * An HTTP server as others write it, over TCP and over TLS, on ports of 127.0.0.1.
 *
 * All of them answer alike, to any method:
 *   /event            the request's X-ASRS-Event
 *   /counted          `counted`, with a Content-Length
 *   /taken            the same, once the request's body has been read
 *   /chunked, /large  see `LARGE_BODY`
 *   /until-close      `until close`, ended by the end of the connection (not Bun's)
 *   /204, /304        no body
 *   /close            `last`, with Connection: close
 * `/counted` says `Keep-Alive: timeout=3`. All close a connection that has been idle for some 4 s: after less, a busy machine
 * might not be quick enough to use it again.
 */
export interface HttpServer {
  readonly port: number;
  readonly tlsPort: number;
  stop(): Promise<void>;
}

const NODE_SERVER = `
  const [certFile, keyFile] = process.argv.slice(1);
  const { readFileSync } = require("node:fs");
  const large = Buffer.alloc(4_000_000, Uint8Array.from({ length: 251 }, (_, index) => index));
  const routes = {
    "/event": (request, response) => response.end(request.headers["x-asrs-event"]),
    "/counted": (_, response) => response.setHeader("Keep-Alive", "timeout=3").end("counted"),
    "/taken": (_, response) => response.end("counted"),
    "/chunked": (_, response) => {
      for (let at = 0; at < ${CHUNKED_BYTES}; at += 50_000) response.write(large.subarray(at, at + 50_000));
      response.end();
    },
    "/trailers": (_, response) => {
      response.setHeader("Trailer", "X-Check");
      response.write("with trailers");
      response.addTrailers({ "X-Check": "ok" });
      response.end();
    },
    "/large": (_, response) => response.end(large),
    "/until-close": (_, response) => {
      response.useChunkedEncodingByDefault = false;
      response.shouldKeepAlive = false;
      response.write("until ");
      response.end("close");
    },
    "/204": (_, response) => response.writeHead(204).end(),
    "/304": (_, response) => response.writeHead(304, { "Content-Length": "4" }).end(),
    "/close": (_, response) => response.setHeader("Connection", "close").end("last"),
    "/interim": (_, response) => {
      response.writeContinue();
      response.writeProcessing();
      response.writeEarlyHints({ link: "</style.css>; rel=preload" }, () => response.end("after all"));
    },
    "/echo": (request, response) => request.pipe(response),
  };
  const answer = (request, response) => {
    const route = routes[request.url];
    if (request.url === "/echo") return route(request, response);
    request.on("end", () => route(request, response)).resume();
  };
  const http = require("node:http").createServer(answer);
  const https = require("node:https").createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, answer);
  for (const server of [http, https]) server.keepAliveTimeout = 3000;
  http.listen(0, "127.0.0.1", () => {
    https.listen(0, "127.0.0.1", () => console.log(http.address().port, https.address().port));
  });
`;

/** A server of Node's `http` and `https`. Has `/interim`, `/trailers` and `/echo` besides. */
export async function startNodeServer({ certFile, keyFile }: Certificate): Promise<HttpServer> {
  const child = spawn("node", ["-e", NODE_SERVER, certFile, keyFile], { stdio: ["ignore", "pipe", "inherit"] });
  if (child.stdout === null) throw new Error("the server has no output");
  const [line] = await within(once(createInterface(child.stdout), "line"), "the server's ports");
  const [port, tlsPort] = String(line).split(" ").map(Number);
  if (port === undefined || tlsPort === undefined) throw new Error(`no two ports: ${line}`);
  return { port, tlsPort, stop: () => end(child) };
}

/** A server of Bun's, in this process. Has `/echo` besides. */
export async function startBunServer({ cert, key }: Certificate): Promise<HttpServer> {
  const routes: Record<string, (request: Request) => Response | Promise<Response>> = {
    "/event": (request) => new Response(request.headers.get("X-ASRS-Event")),
    "/counted": () => new Response("counted", { headers: { "Keep-Alive": "timeout=3" } }),
    "/taken": () => new Response("counted"),
    "/chunked": () => new Response(inPieces(LARGE_BODY.subarray(0, CHUNKED_BYTES))),
    "/large": () => new Response(LARGE_BODY),
    "/204": () => new Response(null, { status: 204 }),
    "/304": () => new Response(null, { status: 304 }),
    "/close": () => new Response("last", { headers: { Connection: "close" } }),
    "/echo": async (request) => new Response(await request.bytes()),
  };
  const fetch = async (request: Request): Promise<Response> => {
    const { pathname } = new URL(request.url);
    if (pathname !== "/echo") await request.bytes();
    return (await routes[pathname]?.(request)) ?? new Response(null, { status: 404 });
  };
  const options = { hostname: "127.0.0.1", port: 0, idleTimeout: 4, fetch };
  const servers = [Bun.serve(options), Bun.serve({ ...options, tls: { cert, key } })] as const;
  const [port, tlsPort] = servers.map((server) => server.port);
  if (port === undefined || tlsPort === undefined) throw new Error("no two ports");
  const stop = async () => void (await Promise.all(servers.map((server) => server.stop(true))));
  return { port, tlsPort, stop };
}

function inPieces(bytes: Uint8Array): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    async pull(controller) {
      // A turn of the loop between them, else they would be joined.
      await new Promise((resolve) => setImmediate(resolve));
      controller.enqueue(bytes.subarray(at, at + 50_000));
      at += 50_000;
      if (at >= bytes.length) controller.close();
    },
  });
}

/** An nginx. Has `/small` besides, which refuses a body of more than a kilobyte with 413. */
export async function startNginx({ certFile, keyFile }: Certificate): Promise<HttpServer> {
  requireProgram("nginx");
  const folder = mkdtempSync(join(tmpdir(), "hubwire-nginx-"));
  const [port, tlsPort] = [await unusedPort(), await unusedPort()];
  writeFileSync(join(folder, "large"), LARGE_BODY);
  writeFileSync(join(folder, "chunked"), LARGE_BODY.subarray(0, CHUNKED_BYTES));
  writeFileSync(join(folder, "until-close"), "until close");
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${folder}/${name};`)
    .join(" ");
  // Files are not for POST, so that error 405 is turned into them; server-side includes make the length unknown.
  const file = (name: string) => `alias ${folder}/${name}; error_page 405 =200 /${name};`;
  const included = "ssi on; ssi_types text/plain;";
  const config = `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log; events {}
    http { access_log off; ${temporary} client_max_body_size 16m; default_type text/plain; keepalive_timeout 4s 3s;
      server { listen 127.0.0.1:${port}; listen 127.0.0.1:${tlsPort} ssl;
        ssl_certificate ${certFile}; ssl_certificate_key ${keyFile};
        location = /event { return 200 $http_x_asrs_event; }
        location = /counted { return 200 counted; }
        location = /taken { proxy_pass http://127.0.0.1:${port}/counted; }
        location = /small { client_max_body_size 1k; return 200 small; }
        location = /chunked { ${included} ${file("chunked")} }
        location = /until-close { ${included} chunked_transfer_encoding off; ${file("until-close")} }
        location = /large { ${file("large")} }
        location = /204 { return 204; }
        location = /304 { return 304; }
        location = /close { keepalive_timeout 0; return 200 last; } } }`;
  writeFileSync(join(folder, "nginx.conf"), config);
  const child = spawn("nginx", ["-c", join(folder, "nginx.conf"), "-e", join(folder, "error.log")], {
    stdio: "ignore",
  });
  const stop = async () => {
    await end(child);
    rmSync(folder, { recursive: true, force: true });
  };
  await within(listening(port, child), "nginx to listen");
  return { port, tlsPort, stop };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill();
  await exited;
}

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
