import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Gate, within } from "../../test/support/deadline.ts";
import { hearing } from "../../test/support/notices.ts";
import { type AdminServer, startAdminServer } from "../admin/admin-server.ts";
import { deadLetterRoutes } from "../admin/dead-letter-routes.ts";
import type { DeadLetter, DeadLetters } from "../core/ports/journal.ts";
import { spellHub } from "../protocol/names.ts";
import type { DeadLettersCommand } from "./args.ts";
import { runDeadLetters } from "./dead-letters.ts";

/** Dead letters in memory, and the calls that came. */
class Letters implements DeadLetters {
  readonly kept = new Map<string, DeadLetter>();
  readonly retried: string[] = [];
  /** Holds every call until it is opened. */
  gate: Gate | null = null;
  fault: Error | null = null;
  readonly asked = new Gate();

  add(connectionId: string, change: { userId?: string | null; reason?: string } = {}): void {
    const place = this.kept.size + 1;
    const { userId = "ann", reason = "" } = change;
    this.kept.set(connectionId, {
      facts: {
        connectionId,
        hub: "chat",
        userId,
        claims: "secret-claim",
        clientQuery: "secret=query",
        forwardedFor: "",
      },
      end: { code: 1006, reason },
      connectOutcomeUnknown: false,
      dueSinceMs: 0,
      triedForMs: 0,
      refusedForMs: 0,
      diedAtMs: 1000,
      keptForMs: 0,
      cause: "status 500",
      place,
    });
  }

  async list(afterPlace: number, limit: number): Promise<DeadLetter[]> {
    await this.#pass();
    return [...this.kept.values()].filter(({ place }) => place > afterPlace).slice(0, limit);
  }

  async retry(connectionIds: readonly string[] | null): Promise<number> {
    await this.#pass();
    const taken = this.#take(connectionIds);
    this.retried.push(...taken);
    return taken.length;
  }

  async drop(connectionIds: readonly string[] | null): Promise<number> {
    await this.#pass();
    return this.#take(connectionIds).length;
  }

  async #pass(): Promise<void> {
    this.asked.open();
    await this.gate?.opened;
    if (this.fault !== null) throw this.fault;
  }

  #take(connectionIds: readonly string[] | null): string[] {
    return [...(connectionIds ?? this.kept.keys())].filter((id) => this.kept.delete(id));
  }
}

/** As it was before the first server started. */
const UMASK = process.umask();

let folder: string;
let letters: Letters;
let faults: string[];
const servers: AdminServer[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-control-"));
  letters = new Letters();
  faults = [];
});
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

function start(dataDir = folder): AdminServer {
  const report = hearing({ fault: ({ where, error }) => void faults.push(`${where}: ${error}`) });
  const server = startAdminServer({
    dataDir,
    routes: deadLetterRoutes(letters, (hub) => spellHub(hub, { chat: "Chat" })),
    report,
  });
  servers.push(server);
  return server;
}

interface Asked {
  readonly name: DeadLettersCommand["name"];
  readonly asJson?: boolean;
  readonly connectionIds?: readonly string[];
}

/** What a command prints, and the ids that it did not find. */
async function run(command: Asked, dataDir = folder): Promise<{ lines: string[]; missing: readonly string[] }> {
  const lines: string[] = [];
  const whole = { configFile: null, flags: {}, asJson: false, connectionIds: null, ...command } as DeadLettersCommand;
  const missing = await within(
    runDeadLetters(whole, dataDir, (line) => lines.push(line)),
    command.name,
  );
  return { lines, missing };
}

async function request(target: string, body: string | null = null): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://hubwire${target}`, {
    unix: join(folder, "control.sock"),
    ...(body === null ? {} : { method: "POST", body }),
  });
  return { status: response.status, text: await response.text() };
}

const HEAD = "connection\thub\tuser\tcode\treason\tsince\tdied at\tcause";

describe("hubwire dead-letters list", () => {
  test("prints a head line and one line for each, with tabs between, and nothing of claims and query", async () => {
    start();
    letters.add("one", { userId: "ann smith", reason: "so long" });
    letters.add("two", { userId: null });
    const { lines } = await run({ name: "dead-letters list" });
    const times = "1970-01-01T00:00:00.000Z\t1970-01-01T00:00:01.000Z";
    expect(lines).toEqual([
      HEAD,
      `one\tChat\tann smith\t1006\tso long\t${times}\tstatus 500`,
      `two\tChat\t\t1006\t\t${times}\tstatus 500`,
    ]);
  });

  test("prints JSON lines that hold what is kept", async () => {
    start();
    letters.add("one", { reason: 'tab\t"quote"\u009b2J' });
    const { lines } = await run({ name: "dead-letters list", asJson: true });
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      {
        connectionId: "one",
        hub: "Chat",
        userId: "ann",
        closeCode: 1006,
        closeReason: 'tab\t"quote"\u009b2J',
        connectOutcomeUnknown: false,
        since: "1970-01-01T00:00:00.000Z",
        diedAt: "1970-01-01T00:00:01.000Z",
        cause: "status 500",
      },
    ]);
    expect(lines[0]).not.toContain("\u009b");
  });

  test("a close reason cannot steer the terminal or make columns and lines", async () => {
    start();
    letters.add("one", { reason: "a\tb\nc\u001b[2Jd\u009b2J\u2028e" });
    const { lines } = await run({ name: "dead-letters list" });
    expect(lines[1]?.split("\t")[4]).toBe("a b c [2Jd 2J e");
  });

  test("prints only the header line for an empty list", async () => {
    start();
    expect((await run({ name: "dead-letters list" })).lines).toEqual([HEAD]);
    expect((await run({ name: "dead-letters list", asJson: true })).lines).toEqual([]);
  });

  for (const count of [499, 500, 501, 1203]) {
    test(`prints ${count}, each once and in order, page by page`, async () => {
      start();
      const ids = Array.from({ length: count }, (_, position) => `id-${position}`);
      for (const id of ids) letters.add(id);
      const { lines } = await run({ name: "dead-letters list" });
      expect(lines.slice(1).map((line) => line.split("\t")[0])).toEqual(ids);
    });
  }
});

describe("hubwire dead-letters retry and drop", () => {
  test("retry sends the named ones again, and names those that there are not", async () => {
    start();
    for (const id of ["one", "two", "three"]) letters.add(id);
    const command = { name: "dead-letters retry", connectionIds: ["one", "nobody", "three"] } as const;
    expect(await run(command)).toEqual({ lines: ["2 dead letters to be sent again"], missing: ["nobody"] });
    expect(letters.retried).toEqual(["one", "three"]);
    expect([...letters.kept.keys()]).toEqual(["two"]);
  });

  test("drop forgets the named ones and sends none", async () => {
    start();
    for (const id of ["one", "two"]) letters.add(id);
    const command = { name: "dead-letters drop", connectionIds: ["two"] } as const;
    expect(await run(command)).toEqual({ lines: ["1 dead letter dropped"], missing: [] });
    expect(letters.retried).toEqual([]);
    expect([...letters.kept.keys()]).toEqual(["one"]);
  });

  test("both take all, and none is no fault", async () => {
    start();
    for (const id of ["one", "two"]) letters.add(id);
    expect((await run({ name: "dead-letters retry" })).lines).toEqual(["2 dead letters to be sent again"]);
    expect(await run({ name: "dead-letters drop" })).toEqual({ lines: ["0 dead letters dropped"], missing: [] });
  });

  test("more ids than one request may name go in several", async () => {
    start();
    const connectionIds = Array.from({ length: 1001 }, (_, position) => `id-${position}`);
    for (const id of connectionIds) letters.add(id);
    const { lines } = await run({ name: "dead-letters drop", connectionIds });
    expect(lines).toEqual(["1001 dead letters dropped"]);
    expect(letters.kept.size).toBe(0);
  });
});

describe("the socket", () => {
  test("is the owner's alone, in a folder that stays as it is", async () => {
    chmodSync(folder, 0o755);
    start();
    expect(statSync(folder).mode & 0o777).toBe(0o755);
    expect(statSync(join(folder, "control.sock")).mode & 0o777).toBe(0o600);
    expect(process.umask()).toBe(UMASK);
  });

  test("a folder that is not there yet is made", async () => {
    start(join(folder, "a", "b"));
    expect(statSync(join(folder, "a", "b")).mode & 0o777).toBe(0o700);
    expect((await run({ name: "dead-letters list" }, join(folder, "a", "b"))).lines).toEqual([HEAD]);
  });

  // The kernel takes 107 bytes; Bun goes through the opened folder for more.
  for (const length of [106, 107, 108, 109, 110, 120, 250, 1000]) {
    test(`is served and reached at a path of ${length} bytes, and removed`, async () => {
      const socketName = "/control.sock";
      let dataDir = folder;
      while (dataDir.length < length - socketName.length - 101) dataDir += `/${"d".repeat(99)}`;
      dataDir += `/${"d".repeat(length - socketName.length - dataDir.length - 1)}`;
      const path = dataDir + socketName;
      expect(path.length).toBe(length);
      mkdirSync(dataDir, { recursive: true });
      const server = start(dataDir);
      expect(statSync(path).mode & 0o777).toBe(0o600);
      letters.add("one");
      expect((await run({ name: "dead-letters list" }, dataDir)).lines.length).toBe(2);
      await server.stop();
      expect(existsSync(path)).toBe(false);
    });
  }

  test("takes the place of the one that a killed process left behind", async () => {
    const path = join(folder, "control.sock");
    const script = `Bun.serve({ unix: ${JSON.stringify(path)}, fetch: () => new Response() }); process.kill(process.pid, "SIGKILL");`;
    const killed = Bun.spawnSync([process.execPath, "-e", script]);
    expect([killed.signalCode, existsSync(path)]).toEqual(["SIGKILL", true]);
    await expect(run({ name: "dead-letters list" })).rejects.toThrow(`no hubwire runs in ${folder}: start it`);
    start();
    expect((await run({ name: "dead-letters list" })).lines).toEqual([HEAD]);
  });

  test("stop lets the request in progress finish, removes the file, and may be called twice", async () => {
    const server = start();
    letters.add("one");
    letters.gate = new Gate();
    const running = run({ name: "dead-letters drop" });
    await within(letters.asked.opened, "the request");
    const stopped = server.stop();
    letters.gate.open();
    expect((await running).lines).toEqual(["1 dead letter dropped"]);
    await within(stopped, "stop()");
    await within(server.stop(), "the second stop()");
    expect(existsSync(join(folder, "control.sock"))).toBe(false);
    await expect(run({ name: "dead-letters list" })).rejects.toThrow(`no hubwire runs in ${folder}: start it`);
  });

  test("stop does not wait endlessly for a request that does not end", async () => {
    const server = start();
    letters.gate = new Gate();
    const running = run({ name: "dead-letters list" }).then(
      () => "answered",
      (error: Error) => error.message,
    );
    await within(letters.asked.opened, "the request");
    await within(server.stop(), "stop()");
    expect(await running).toStartWith(`no answer from the hubwire in ${folder}: `);
    letters.gate.open();
  });
});

describe("what is not understood is answered as JSON", () => {
  test("another path, another method", async () => {
    start();
    for (const answer of [await request("/nothing"), await request("/dead-letters/drop"), await request("/", "{}")]) {
      expect(answer.status).toBe(404);
      expect(JSON.parse(answer.text)).toEqual({ error: expect.any(String) });
    }
  });

  test("a place that does not exist", async () => {
    start();
    for (const after of ["x", "-1", "1e3", "", "9".repeat(16)]) {
      expect((await request(`/dead-letters?after=${after}`)).status).toBe(400);
    }
  });

  test("a body that is no choice changes nothing", async () => {
    start();
    letters.add("one");
    for (const body of [
      "",
      "{",
      "{}",
      "null",
      '{"connectionIds":"one"}',
      '{"connectionIds":[1]}',
      '{"connectionIds":null,"x":1}',
    ]) {
      const answer = await request("/dead-letters/drop", body);
      expect([body, answer.status]).toEqual([body, 400]);
      expect(JSON.parse(answer.text)).toEqual({ error: expect.any(String) });
    }
    expect(letters.kept.size).toBe(1);
  });

  test("1,000 ids are taken, 1,001 are not", async () => {
    start();
    const choose = (count: number) => JSON.stringify({ connectionIds: Array.from({ length: count }, () => "id") });
    expect((await request("/dead-letters/drop", choose(1000))).status).toBe(200);
    expect((await request("/dead-letters/drop", choose(1001))).status).toBe(400);
  });

  test("a body of 256 KiB is read, one byte more is not", async () => {
    start();
    const padded = (length: number) => `${" ".repeat(length - 22)}{"connectionIds":null}`;
    expect((await request("/dead-letters/drop", padded(256 * 1024))).status).toBe(200);
    expect((await request("/dead-letters/drop", padded(256 * 1024 + 1))).status).toBe(413);
  });

  test("a fault of the journal is reported, told in a sentence, and the next request is answered", async () => {
    start();
    letters.fault = new Error("disk on fire");
    const failed = run({ name: "dead-letters list" });
    await expect(failed).rejects.toThrow(`the hubwire in ${folder} says: fault of the service: its log has more`);
    expect(faults).toEqual(["control socket: Error: disk on fire"]);
    letters.fault = null;
    expect((await run({ name: "dead-letters list" })).lines).toEqual([HEAD]);
  });
});

describe("nobody, or somebody else, behind the socket", () => {
  test("no folder, no socket", async () => {
    for (const dataDir of [folder, join(folder, "nowhere")]) {
      await expect(run({ name: "dead-letters list" }, dataDir)).rejects.toThrow(
        `no hubwire runs in ${dataDir}: start it`,
      );
    }
  });

  for (const [what, respond] of [
    ["no JSON", () => new Response("hello")],
    ["other JSON", () => Response.json({ deadLetters: 1, next: null })],
    ["a status", () => new Response("", { status: 413 })],
  ] as const) {
    test(`${what} is no answer`, async () => {
      await using server = Bun.serve({ unix: join(folder, "control.sock"), fetch: respond });
      expect(server.url.protocol).toBe("unix:");
      const asked = run({ name: "dead-letters list" });
      await expect(asked).rejects.toThrow(/ answered \d+, which this version does not understand$/);
    });
  }
});
