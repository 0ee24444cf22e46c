import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { untilDone, within } from "./deadline.ts";
import { unusedPort } from "./raw-backend.ts";

/** A WSGI application: accepts every client, and answers a message with the worker's process id and the message. */
export const WSGI = `
import os
def app(environ, start_response):
    body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
    event = environ['PATH_INFO'].rsplit('/', 1)[-1]
    answer = (b'%d ' % os.getpid()) + body if event == 'message' else b''
    headers = [('Content-Type', 'text/plain'), ('Content-Length', str(len(answer)))]
    start_response('200 OK', headers + ([('X-ASRS-User-Id', 'alice')] if event == 'connect' else []))
    return [answer]
`;

/** The same for PSGI. */
export const PSGI = `
sub {
  my $env = shift;
  my $body = '';
  $env->{'psgi.input'}->read($body, $env->{CONTENT_LENGTH} || 0);
  my ($event) = $env->{PATH_INFO} =~ m{/(\\w+)$};
  my $answer = $event eq 'message' ? "$$ $body" : '';
  my @headers = ('Content-Type' => 'text/plain', 'Content-Length' => length $answer);
  return [200, [@headers, $event eq 'connect' ? ('X-ASRS-User-Id' => 'alice') : ()], [$answer]];
}
`;

export interface ForeignBackendOptions {
  /** The words of its command; it listens on `address`, and finds `files` in its folder. */
  readonly command: (address: string) => readonly string[];
  readonly files: Readonly<Record<string, string>>;
}

/** A server that others have written, with an application of a test's, in a folder of its own. */
export class ForeignBackend {
  readonly url: string;
  readonly #folder: string;
  readonly #child: ChildProcess;

  private constructor(url: string, folder: string, child: ChildProcess) {
    this.url = url;
    this.#folder = folder;
    this.#child = child;
  }

  /** Starts it, and waits until its port is open. */
  static async start({ command, files }: ForeignBackendOptions): Promise<ForeignBackend> {
    const folder = mkdtempSync(join(tmpdir(), "hubwire-backend-"));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    const port = await unusedPort();
    const [program = "", ...args] = command(`127.0.0.1:${port}`);
    // A group of its own, so that its workers end with it.
    const child = spawn(program, args, { cwd: folder, stdio: "ignore", detached: true });
    const backend = new ForeignBackend(`http://127.0.0.1:${port}`, folder, child);
    try {
      await within(Promise.race([untilDone(() => dial(port)), ending(child, program)]), `${program} to listen`);
      return backend;
    } catch (fault) {
      await backend[Symbol.asyncDispose]();
      throw fault;
    }
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { pid, exitCode, signalCode } = this.#child;
    if (pid !== undefined && exitCode === null && signalCode === null) {
      const ended = once(this.#child, "exit");
      process.kill(-pid, "SIGKILL");
      await within(ended, "the backend to end");
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function ending(child: ChildProcess, program: string): Promise<never> {
  await once(child, "exit");
  throw new Error(`${program} has ended`);
}

async function dial(port: number): Promise<void> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect").finally(() => socket.destroy());
}
