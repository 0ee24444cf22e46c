import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { Certificate } from "../test/support/certificates.ts";
import { findFreePort } from "../test/support/command.ts";
import { until, untilDone, within } from "../test/support/deadline.ts";

/**
 * An nginx of one worker in a folder of its own.
 *
 * Shape: the contents of `http {}` besides the settings that all have; `PORT` in it is its port.
 */
export class Nginx {
  readonly port: number;
  readonly folder = mkdtempSync(join(tmpdir(), "hubwire-bench-nginx-"));
  readonly #child: ChildProcess;

  private constructor(port: number, http: string, module: string | undefined) {
    this.port = port;
    const file = join(this.folder, "nginx.conf");
    const load = module === undefined ? "" : `load_module ${module};\n`;
    writeFileSync(file, load + configOf(http.replaceAll("PORT", String(port))));
    this.#child = spawn("nginx", ["-p", this.folder, "-e", join(this.folder, "error.log"), "-c", file], {
      stdio: ["ignore", "inherit", "inherit"],
      env: { ...process.env, PATH: [process.env["PATH"], "/usr/sbin"].filter(Boolean).join(delimiter) },
    });
  }

  /** Waits until it listens; with the file of a module that is no part of nginx itself, where one is needed. */
  static async start(http: string, module?: string): Promise<Nginx> {
    const nginx = new Nginx(await findFreePort(), http, module);
    try {
      await within(
        untilDone(async () => {
          const socket = connect(nginx.port, "127.0.0.1");
          await once(socket, "connect").finally(() => socket.destroy());
        }),
        "nginx to listen",
      );
      return nginx;
    } catch (fault) {
      await nginx[Symbol.asyncDispose]();
      throw fault;
    }
  }

  /** The process of its one worker. */
  get pid(): number {
    const { pid = 0 } = this.#child;
    return Number.parseInt(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8"), 10);
  }

  /** A file of its folder. */
  read(name: string): string {
    return readFileSync(join(this.folder, name), "utf8");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null) {
      const ended = once(this.#child, "exit");
      this.#child.kill("SIGTERM");
      await ended;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Connections are never ended for their age: both the gateway and the peers keep theirs for the whole run. */
function configOf(http: string): string {
  return `daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid nginx.pid;
events { worker_connections 18000; }
http {
  access_log off;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
${http}
}
`;
}

/** What the backend answers to a message: 64 bytes. */
export const REPLY = "0123456789abcdef".repeat(4);

export interface BackendOptions {
  /** Where one in a thousand messages is handed to. */
  readonly checkerPort?: number;
  /** It listens with TLS, and with TLS only. */
  readonly certificate?: Certificate;
}

/** Where the backend speaks WebSocket-over-HTTP. */
export const EVENTS_PATH = "/events";

/**
 * The backend of all systems: it answers every event at once.
 *
 * Shape: one in a thousand messages is answered by the checker on a port, where there is one; `/plain` does the same for peers.
 *        A connection's user is `u-` and its id; its groups are `all`, and one named by the last two characters of its id: 256
 *        groups, since those hold 8 of its 128 random bits. `ids.log` holds the ids. `/events` tells Pushpin's events apart by
 *        their length: `OPEN` and a message of 64 bytes are answered in kind, an end with nothing.
 */
export async function startBackend({ checkerPort, certificate }: BackendOptions = {}): Promise<Nginx> {
  const check =
    checkerPort === undefined ? "" : `if ($is_checked) { proxy_pass http://127.0.0.1:${checkerPort}; break; }`;
  const answer = `default_type text/plain; ${check} return 200 "${REPLY}";`;
  return await Nginx.start(`
  map $http_x_asrs_connection_id $pair { "~(?<last>..)$" $last; }
  split_clients "$connection.$connection_requests" $is_checked { 0.1% 1; * 0; }
  map $content_length $events { 6 "OPEN\\r\\n"; 75 "TEXT 40\\r\\n${REPLY}\\r\\n"; default ""; }
  log_format ids "$http_x_asrs_connection_id";
  server {
    listen 127.0.0.1:PORT backlog=4096${certificate === undefined ? "" : " ssl"};
    ${certificate === undefined ? "" : `ssl_protocols TLSv1.3; ssl_certificate ${certificate.certFile}; ssl_certificate_key ${certificate.keyFile};`}
    location /connect {
      access_log ids.log ids buffer=64k flush=100ms;
      add_header X-ASRS-User-Id "u-$http_x_asrs_connection_id";
      add_header X-ASRS-Connection-Group "all, $pair";
      return 200;
    }
    location /message { ${answer} }
    location /plain { ${answer} }
    location ${EVENTS_PATH} { default_type application/websocket-events; return 200 $events; }
    location /disconnect { return 204; }
  }`);
}

/** The ids of all connections that the backend was asked about, in the order of their connects; waits until it has written them. */
export async function connectionIds(backend: Nginx, count: number): Promise<string[]> {
  let ids: string[] = [];
  const look = () => {
    ids = backend.read("ids.log").split("\n").filter(Boolean);
    return ids.length >= count;
  };
  await until(look, `${count} connection ids`);
  return ids;
}

/** One HTTP hop in C before the same backend; with the authority of a backend that listens with TLS. */
export async function startProxy(backend: Nginx, authority?: Certificate): Promise<Nginx> {
  const tls =
    authority &&
    `proxy_ssl_protocols TLSv1.3; proxy_ssl_verify on; proxy_ssl_trusted_certificate ${authority.certFile};`;
  return await Nginx.start(`
  upstream backend { server 127.0.0.1:${backend.port}; keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 3600s; }
  server {
    listen 127.0.0.1:PORT backlog=4096;
    location / {
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_pass ${authority === undefined ? "http" : "https"}://backend;
      ${tls === undefined ? "" : `${tls} proxy_ssl_name localhost;`}
    }
  }`);
}
