import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { COMMANDS_TIMEOUT_MS, REPOSITORY } from "./support/command.ts";
import { CommandGateway } from "./support/command-gateway.ts";
import { KEYS } from "./support/gateway.ts";
import { acceptAs, RawBackend } from "./support/raw-backend.ts";
import { RawWebSocket } from "./support/raw-websocket.ts";
import { connectionIdOf, ofConnection } from "./support/stack.ts";

/** `hubwire dead-letters`, as an operator runs it next to a running gateway. */
setDefaultTimeout(COMMANDS_TIMEOUT_MS);

const LAUNCHER = join(REPOSITORY, "bin", "hubwire.mjs");
const HEAD = "connection\thub\tuser\tcode\treason\tsince\tdied at\tcause";
const TIME = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);

let backend: RawBackend;
let gateway: CommandGateway;

beforeEach(async () => {
  backend = await RawBackend.start();
  backend.onConnect = acceptAs("ann");
  gateway = await CommandGateway.start({ config: config() });
});
afterEach(async () => {
  await gateway[Symbol.asyncDispose]();
  await backend[Symbol.asyncDispose]();
});

/** An event that is not taken at the first try is a dead letter. */
function config(): Record<string, unknown> {
  const upstreams = [{ urlTemplate: `${backend.url}/{hub}/api/{event}` }];
  return { accessKeys: KEYS, upstreams, disconnect: { retryForSeconds: 0 } };
}

async function deadLetters(...words: string[]): Promise<{ code: number; lines: string[]; stderr: string }> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^hubwire_/i.test(name));
  const child = Bun.spawn(["node", LAUNCHER, "dead-letters", ...words], {
    cwd: gateway.folder,
    env: Object.fromEntries(inherited),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, lines: stdout.split("\n").slice(0, -1), stderr };
}

/** A connection whose disconnect event the backend does not take; resolves with its id once that is given up. */
async function die(nth: number, at = gateway): Promise<string> {
  backend.onDisconnect = (exchange) => exchange.reply(500);
  using client = await RawWebSocket.open({ port: at.port, path: "/client/hubs/chat?secret=query" });
  const connectionId = connectionIdOf(await backend.next("connect"));
  client.close(4000, "so\tlong");
  await backend.next("disconnect", ofConnection(connectionId));
  await at.logged("disconnect event given up: see hubwire dead-letters", nth);
  return connectionId;
}

function eventIds(connectionId: string): (string | undefined)[] {
  return backend.of("disconnect", ofConnection(connectionId)).map((request) => request.header("X-Hubwire-Event-Id"));
}

test("list shows what was given up, as columns and as JSON, without the client's query", async () => {
  const ids = [await die(1), await die(2)];
  const listed = await deadLetters("list");
  expect([listed.code, listed.stderr, listed.lines[0]]).toEqual([0, "", HEAD]);
  expect(listed.lines.slice(1).map((line) => line.split("\t"))).toEqual(
    ids.map((id) => [id, "chat", "ann", "4000", "so long", TIME, TIME, expect.stringContaining("500")]),
  );
  const json = await deadLetters("list", "--json", "--config", gateway.configFile);
  expect(json.lines.map((line) => JSON.parse(line))).toEqual(
    ids.map((connectionId) => ({
      connectionId,
      hub: "chat",
      userId: "ann",
      closeCode: 4000,
      closeReason: "so\tlong",
      connectOutcomeUnknown: false,
      since: TIME,
      diedAt: TIME,
      cause: expect.stringContaining("500"),
    })),
  );
  expect(JSON.stringify([listed, json])).not.toContain("secret");
});

test("retry sends the same event again, and the dead letter is gone", async () => {
  const [one, other] = [await die(1), await die(2)];
  backend.onDisconnect = (exchange) => exchange.reply(204);
  expect(await deadLetters("retry", one)).toEqual({ code: 0, lines: ["1 dead letter to be sent again"], stderr: "" });
  await backend.next("disconnect", ofConnection(one));
  const [first, second] = eventIds(one);
  expect(first).toBeString();
  expect(second).toBe(first);
  expect(eventIds(other).length).toBe(1);
  expect((await deadLetters("list")).lines.slice(1).map((line) => line.split("\t")[0])).toEqual([other]);
});

test("retry of all, while the backend still fails, ends as dead letters again", async () => {
  const ids = [await die(1), await die(2)];
  expect((await deadLetters("retry", "--all")).lines).toEqual(["2 dead letters to be sent again"]);
  await gateway.logged("disconnect event given up: see hubwire dead-letters", 4);
  expect((await deadLetters("list")).lines.slice(1).map((line) => line.split("\t")[0])).toEqual(
    expect.arrayContaining(ids),
  );
});

test("drop forgets, and names the ids that it did not find with exit code 1", async () => {
  const [one, other] = [await die(1), await die(2)];
  expect(await deadLetters("drop", "nobody", one)).toEqual({
    code: 1,
    lines: ["1 dead letter dropped"],
    stderr: "hubwire: there is no dead letter of connection nobody\n",
  });
  expect(await deadLetters("drop", "--all", `--data-dir=${gateway.dataDir}`)).toEqual({
    code: 0,
    lines: ["1 dead letter dropped"],
    stderr: "",
  });
  expect((await deadLetters("list")).lines).toEqual([HEAD]);
  for (const id of [one, other]) expect(eventIds(id).length).toBe(1);
});

test("a kill -9 loses none: the next process sends it again with the same event id", async () => {
  await using killed = await CommandGateway.start({ through: "bun", config: config() });
  const id = await die(1, killed);
  killed.kill("SIGKILL");
  await killed.ended;
  await using next = await CommandGateway.start({ config: { ...config(), dataDir: killed.dataDir } });
  const where = ["--config", next.configFile];
  expect((await deadLetters("list", ...where)).lines.slice(1).map((line) => line.split("\t")[0])).toEqual([id]);
  backend.onDisconnect = (exchange) => exchange.reply(204);
  await deadLetters("retry", id, ...where);
  await backend.next("disconnect", ofConnection(id));
  const [first, second] = eventIds(id);
  expect(first).toBeString();
  expect(second).toBe(first);
  expect(await deadLetters("list", ...where)).toEqual({ code: 0, lines: [HEAD], stderr: "" });
});

describe("which process is asked", () => {
  test("nobody where none runs: a sentence and exit code 1, and no folder is made", async () => {
    for (const words of [["list"], ["retry", "x"], ["drop", "--all"]]) {
      const { code, lines, stderr } = await deadLetters(...words, "--data-dir", "elsewhere");
      expect([code, lines]).toEqual([1, []]);
      const dataDir = join(gateway.folder, "elsewhere");
      expect(stderr).toBe(
        `hubwire: no hubwire runs in ${dataDir}: start it, or name its folder with --config or --data-dir\n`,
      );
      expect(await Bun.file(dataDir).exists()).toBe(false);
    }
  });

  test("none any more after a kill, and the next one in the same folder", async () => {
    await using killed = await CommandGateway.start({ through: "bun", config: {} });
    const where = `--data-dir=${killed.dataDir}`;
    expect((await deadLetters("list", where)).lines).toEqual([HEAD]);
    killed.kill("SIGKILL");
    await killed.ended;
    expect(await deadLetters("list", where)).toMatchObject({ code: 1, lines: [] });
    await using next = await CommandGateway.start({ config: { dataDir: killed.dataDir } });
    expect(await deadLetters("list", "--config", next.configFile)).toEqual({ code: 0, lines: [HEAD], stderr: "" });
  });

  test("one whose folder's path is longer than a socket's may be", async () => {
    await using far = await CommandGateway.start({ config: { dataDir: join("d".repeat(100), "e".repeat(100)) } });
    expect((await deadLetters("list", "--config", far.configFile)).lines).toEqual([HEAD]);
    far.kill("SIGTERM");
    expect(await far.ended).toBe(0);
    expect(await deadLetters("list", "--config", far.configFile)).toMatchObject({ code: 1, lines: [] });
  });

  test("a configuration that cannot be used is refused with its report and exit code 2", async () => {
    gateway.write({ limits: { maxMesageBytes: 1 } });
    const { code, lines, stderr } = await deadLetters("list");
    expect([code, lines]).toEqual([2, []]);
    expect(stderr).toContain("limits.maxMesageBytes");
  });
});
