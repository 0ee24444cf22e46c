import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { COMMANDS_TIMEOUT_MS, findFreePort, REPOSITORY, type RunningCommand, startCommand } from "./support/command.ts";
import { within } from "./support/deadline.ts";
import { KEYS } from "./support/gateway.ts";
import { findManifest } from "./support/manifests.ts";
import { NatsServer } from "./support/nats-server.ts";
import { canRunAsOtherUser } from "./support/other-user.ts";
import { needs } from "./support/programs.ts";
import { RawBackend } from "./support/raw-backend.ts";
import { RawWebSocket } from "./support/raw-websocket.ts";
import { secondsFromNow, signToken } from "./support/tokens.ts";

const nats = needs("nats-server");

/** A data folder that is there before hubwire, and open to others: as a Kubernetes volume is to the group of `fsGroup`. */
setDefaultTimeout(COMMANDS_TIMEOUT_MS);

const LAUNCHER = `node ${join(REPOSITORY, "bin", "hubwire.mjs")}`;
const VOLUME_MODE = 0o2775;
/** User and group of the pods on Kubernetes; the group of the volume too. */
const POD = findManifest("StatefulSet", "hubwire").spec.template.spec.securityContext as Record<string, number>;
const { runAsUser: USER = 0, runAsGroup: GROUP = 0, fsGroup: VOLUME_GROUP = 0 } = POD;

let folder: string;
let backend: RawBackend;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-data-folder-"));
  chmodSync(folder, 0o755);
  backend = await RawBackend.start();
});
afterAll(async () => {
  await backend.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A folder of this mode, and a configuration next to it that names it. */
function makeVolume(mode: number, config: Readonly<Record<string, unknown>> = {}): { dataDir: string; file: string } {
  const own = mkdtempSync(join(folder, "own-"));
  chmodSync(own, 0o755);
  const dataDir = join(own, "volume");
  mkdirSync(dataDir);
  chmodSync(dataDir, mode);
  const file = join(own, "hubwire.json");
  const upstreams = [{ urlTemplate: `${backend.url}/{event}` }];
  const shutdown = { spreadMs: 0, drainTimeoutMs: 5000 };
  writeFileSync(file, JSON.stringify({ dataDir, upstreams, shutdown, listen: { port: 0 }, ...config }));
  return { dataDir, file };
}

const modeOf = (path: string): number => lstatSync(path).mode & 0o7777;

/** Names of all files and folders below, with the modes that they have. */
function modesBelow(path: string): Record<string, string> {
  const names = readdirSync(path, { recursive: true, encoding: "utf8" }).toSorted();
  return Object.fromEntries(names.map((name) => [name, (modeOf(join(path, name)) & 0o777).toString(8)]));
}

/** With umask 0 a file has exactly the mode that it was made with. */
function start(words: string, { prefix = "", home = folder } = {}): RunningCommand {
  return startCommand(`umask 0; exec ${prefix} ${LAUNCHER} ${words}`, { cwd: folder, env: { HOME: home } });
}

async function listening(command: RunningCommand): Promise<number> {
  const [, port] = await command.printed(/^hubwire listens on http:\/\/127\.0\.0\.1:(\d+)/m);
  return Number(port);
}

async function end(command: RunningCommand): Promise<void> {
  command.child.kill("SIGTERM");
  expect(await within(command.ended, "the gateway's end")).toBe(0);
}

function warningsOf(command: RunningCommand): string[] {
  const lines = command
    .stderr()
    .split("\n")
    .filter((line) => line.startsWith("{"));
  const entries = lines.map((line) => JSON.parse(line) as { level: number; msg: string });
  return entries.filter(({ level, msg }) => level === 40 && /mode/.test(msg)).map(({ msg }) => msg);
}

/** Has the gateway make all files that it ever makes: a connection for the journal, a rule for its file. */
async function fill(port: number, key: string): Promise<void> {
  using client = await RawWebSocket.open({ port });
  const path = "/ws/api/hubs/_default/users/ada/groups/tea?ttl=600";
  const audience = `http://127.0.0.1:${port}${path.replace(/\?.*/, "")}`;
  const token = signToken({ aud: audience, exp: secondsFromNow(600) }, { key });
  const url = `http://127.0.0.1:${port}${path}`;
  const { status } = await fetch(url, { method: "PUT", headers: { Authorization: `Bearer ${token}` } });
  expect(status).toBe(202);
  client.close(1000);
  await client.closed();
}

const WRITABLE = (dataDir: string, mode: string) =>
  `dataDir ${dataDir} has mode ${mode}: others than its owner can replace the access key and the journal. Its mode should be 0700`;

describe("a data folder that is open to others", () => {
  test("keeps its mode, is warned of in the log, and all that is made in it is the owner's alone", async () => {
    const { dataDir, file } = makeVolume(VOLUME_MODE);
    await using command = start(`start --config ${file}`);
    const port = await listening(command);
    await fill(port, readFileSync(join(dataDir, "access-key"), "utf8").trim());
    expect(modeOf(dataDir)).toBe(VOLUME_MODE);
    const keys = ["access-key", "access-key-secondary"];
    const names = [...keys, "control.sock", "journal.sqlite", "journal.sqlite-shm", "journal.sqlite-wal", "lock"];
    const rules = ["rules.sqlite", "rules.sqlite-shm", "rules.sqlite-wal"];
    expect(modesBelow(dataDir)).toEqual(Object.fromEntries([...names, ...rules].map((name) => [name, "600"])));
    await end(command);
    expect(warningsOf(command)).toEqual([WRITABLE(dataDir, "2775")]);
    expect(modeOf(dataDir)).toBe(VOLUME_MODE);
  });

  test("is warned of by check, with the mode of a key that others can read", async () => {
    const { dataDir, file } = makeVolume(0o755);
    writeFileSync(join(dataDir, "access-key"), "k".repeat(44));
    chmodSync(join(dataDir, "access-key"), 0o644);
    await using command = start(`check --config ${file}`);
    expect(await command.ended).toBe(0);
    expect(command.stdout()).toContain(
      `warning: dataDir ${dataDir} has mode 0755: others than its owner can reach the files in it. Its mode should be 0700\n`,
    );
    expect(command.stdout()).toContain(
      `warning: ${join(dataDir, "access-key")} has mode 0644: anybody who can read it can make tokens and events. Its mode should be 0600\n`,
    );
    expect(modeOf(dataDir)).toBe(0o755);
  });

  test.each([
    ["0700", 0o700],
    ["that is missing", null],
  ] as const)("is not open to others with mode %s", async (_, mode) => {
    const { dataDir, file } = makeVolume(mode ?? 0o755);
    if (mode === null) rmSync(dataDir, { recursive: true });
    await using check = start(`check --config ${file}`);
    expect(await check.ended).toBe(0);
    expect(check.stdout()).not.toContain("mode");
    await using command = start(`start --config ${file}`);
    await listening(command);
    await end(command);
    expect(warningsOf(command)).toEqual([]);
    expect(modeOf(dataDir)).toBe(0o700);
  });

  nats.test("has folders of the owner alone for --processes, and is warned of once", async () => {
    await using nats = await NatsServer.start();
    const cluster = { nats: { servers: [nats.url] } };
    const { dataDir, file } = makeVolume(VOLUME_MODE, {
      listen: { port: await findFreePort() },
      accessKeys: KEYS,
      cluster,
    });
    await using command = start(`start --config ${file} --processes 2`);
    await listening(command);
    expect(modeOf(dataDir)).toBe(VOLUME_MODE);
    const made = modesBelow(dataDir);
    for (const node of ["node-0", "node-1"]) {
      expect(made[node]).toBe("700");
      for (const name of ["journal.sqlite", "node-id", "lock", "control.sock"]) {
        expect([name, made[join(node, name)]]).toEqual([name, "600"]);
      }
    }
    await end(command);
    expect(warningsOf(command)).toEqual([WRITABLE(dataDir, "2775")]);
  });
});

/** Others' folders and files can only be made by root. */
describe.skipIf(!canRunAsOtherUser())("a volume of root's that a group may write", () => {
  const prefix = `setpriv --reuid=${USER} --regid=${GROUP} --groups=${VOLUME_GROUP}`;

  test("is a data folder, as with fsGroup on Kubernetes", async () => {
    const { dataDir, file } = makeVolume(VOLUME_MODE);
    chownSync(dataDir, 0, VOLUME_GROUP);
    // chown takes the set-group-id bit away.
    chmodSync(dataDir, VOLUME_MODE);
    await using command = start(`start --config ${file}`, { prefix, home: "/nonexistent" });
    await fill(await listening(command), readFileSync(join(dataDir, "access-key"), "utf8").trim());
    await end(command);
    expect(warningsOf(command)).toEqual([WRITABLE(dataDir, "2775")]);
    const { uid, gid, mode } = statSync(dataDir);
    expect([uid, gid, mode & 0o7777]).toEqual([0, VOLUME_GROUP, VOLUME_MODE]);
    for (const [name, made] of Object.entries(modesBelow(dataDir))) expect([name, made]).toEqual([name, "600"]);
  });

  test("may hold files of the user before, which the group may write", async () => {
    const { dataDir, file } = makeVolume(VOLUME_MODE);
    await using before = start(`start --config ${file}`);
    await fill(await listening(before), readFileSync(join(dataDir, "access-key"), "utf8").trim());
    await end(before);
    for (const path of [dataDir, ...readdirSync(dataDir).map((name) => join(dataDir, name))]) {
      chownSync(path, 0, VOLUME_GROUP);
      chmodSync(path, path === dataDir ? VOLUME_MODE : 0o660);
    }
    const key = readFileSync(join(dataDir, "access-key"), "utf8");
    await using command = start(`start --config ${file}`, { prefix, home: "/nonexistent" });
    await fill(await listening(command), key.trim());
    await end(command);
    expect(readFileSync(join(dataDir, "access-key"), "utf8")).toBe(key);
  });
});

describe("a symbolic link that others have put into the data folder", () => {
  test.each(["access-key", "journal.sqlite", "lock"])(
    "as %s ends the start with a sentence, and is not followed",
    async (name) => {
      const { dataDir, file } = makeVolume(0o777);
      const target = join(dirname(dataDir), "target");
      writeFileSync(target, "another's");
      chmodSync(target, 0o644);
      symlinkSync(target, join(dataDir, name));
      await using command = start(`start --config ${file}`);
      expect(await within(once(command.child, "exit"), "the start's end")).toEqual([1, null]);
      await command.ended;
      expect(command.stderr()).toContain(`${join(dataDir, name)} is not a regular file: move it away`);
      expect([readFileSync(target, "utf8"), modeOf(target)]).toEqual(["another's", 0o644]);
    },
  );
});
