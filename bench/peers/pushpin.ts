import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findFreePort } from "../../test/support/command.ts";
import { untilDone, within } from "../../test/support/deadline.ts";
import { EVENTS_PATH, type Nginx } from "../nginx.ts";

/**
 * Pushpin and zurl, which calls the backend for it, in a folder of their own.
 *
 * Shape: all clients' events go to the backend as WebSocket-over-HTTP. Queues and limits are as large as the rows need, otherwise the
 *        defaults of Debian's files; log level 0.
 */
export class Pushpin {
  readonly port: number;
  readonly #folder = mkdtempSync(join(tmpdir(), "hubwire-bench-pushpin-"));
  readonly #children: readonly ChildProcess[];

  private constructor(port: number, publishPort: number, backend: Nginx) {
    this.port = port;
    const file = (name: string, text: string) => {
      writeFileSync(join(this.#folder, name), text);
      return join(this.#folder, name);
    };
    for (const name of ["run", "log"]) mkdirSync(join(this.#folder, name));
    file("routes", `* 127.0.0.1:${backend.port},over_http\n`);
    const zurl = file("zurl.conf", zurlConfig(this.#folder));
    const pushpin = file("pushpin.conf", pushpinConfig(this.#folder, port, publishPort));
    this.#children = [
      // zurl first: it makes the sockets that Pushpin connects to.
      spawn("zurl", [`--config=${zurl}`, "--loglevel=0"], { stdio: "ignore" }),
      spawn("pushpin", [`--config=${pushpin}`], { stdio: "ignore" }),
    ];
  }

  /** Waits until a request gets through to the backend. */
  static async start(backend: Nginx): Promise<Pushpin> {
    const pushpin = new Pushpin(await findFreePort(), await findFreePort(), backend);
    try {
      const ask = async () => {
        const response = await fetch(`http://127.0.0.1:${pushpin.port}${EVENTS_PATH}`);
        await response.arrayBuffer();
        if (!response.ok) throw new Error(`Pushpin answers ${response.status}`);
      };
      await within(untilDone(ask), "Pushpin to reach the backend");
      return pushpin;
    } catch (fault) {
      await pushpin[Symbol.asyncDispose]();
      throw fault;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Pushpin ends the processes that it started.
    for (const child of this.#children.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await within(ended, "Pushpin to end").finally(() => child.kill("SIGKILL"));
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function zurlConfig(folder: string): string {
  return `[General]
in_spec=ipc://${folder}/zurl-in
in_stream_spec=ipc://${folder}/zurl-in-stream
out_spec=ipc://${folder}/zurl-out
in_req_spec=ipc://${folder}/zurl-req
ipc_file_mode=660
defpolicy=allow
allow=
deny=
max_open_requests=20000
buffer_size=200000
timeout=600
in_hwm=20000
out_hwm=20000
`;
}

function pushpinConfig(folder: string, port: number, publishPort: number): string {
  return `[global]
include={libdir}/internal.conf
rundir=${folder}/run
ipc_prefix=bench-
[runner]
services=condure,pushpin-proxy,pushpin-handler
http_port=127.0.0.1:${port}
logdir=${folder}/log
log_level=0
client_maxconn=20000
[proxy]
routesfile=${folder}/routes
zurl_out_specs=ipc://${folder}/zurl-in
zurl_out_stream_specs=ipc://${folder}/zurl-in-stream
zurl_in_specs=ipc://${folder}/zurl-out
[handler]
push_in_spec=ipc://${folder}/push-in
push_in_sub_specs=ipc://${folder}/push-sub
push_in_http_addr=127.0.0.1
push_in_http_port=${publishPort}
stats_spec=ipc://${folder}/stats
command_spec=ipc://${folder}/command
`;
}
