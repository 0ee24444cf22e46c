import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHmac } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type StartedExample, startExample } from "./support/chat-example.ts";
import { COMMANDS_TIMEOUT_MS, findFreePort, listenOnce, REPOSITORY, startCommand } from "./support/command.ts";
import { within } from "./support/deadline.ts";
import { RawWebSocket } from "./support/raw-websocket.ts";

setDefaultTimeout(COMMANDS_TIMEOUT_MS);

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-example-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("npm start", () => {
  let started: StartedExample;

  beforeAll(async () => {
    started = await startExample(join(folder, "data"));
  });
  afterAll(async () => {
    await started.npm[Symbol.asyncDispose]();
  });

  /** Connects as the page does: asks the backend for the gateway's URL, and gives a name in the query. */
  async function enter(name: string): Promise<RawWebSocket> {
    const { url } = (await (await fetch(new URL("gateway", started.pageUrl))).json()) as { url: string };
    const { port, pathname } = new URL(url);
    const origin = `Origin: ${new URL(started.pageUrl).origin}`;
    return RawWebSocket.request({
      port: Number(port),
      path: `${pathname}?name=${encodeURIComponent(name)}`,
      lines: [origin],
    });
  }

  /** The next line of one of these kinds; others, such as the list of who is here, come whenever they like. */
  async function nextLine(client: RawWebSocket, ...kinds: string[]): Promise<Record<string, unknown>> {
    for (;;) {
      const line = JSON.parse(await client.nextText()) as Record<string, unknown>;
      if (kinds.includes(String(line["kind"]))) return line;
    }
  }

  /** A client that is in, its welcome read. */
  async function visit(name: string): Promise<RawWebSocket> {
    const client = await enter(name);
    await client.upgraded();
    expect(JSON.parse(await client.nextText())).toEqual({ kind: "notice", text: `Welcome, ${name}.` });
    return client;
  }

  const command = (kind: string, to: string, text = "") => JSON.stringify({ kind, to, text });

  test("serves a page of three files that load nothing from elsewhere and set no HTML", async () => {
    const response = await fetch(started.pageUrl);
    const page = await response.text();
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/html;charset=utf-8");
    expect(page).toContain("<title>hubwire chat</title>");
    const links = [...page.matchAll(/\b(?:src|href)\s*=\s*"([^"]*)"/g)].map(([, target]) => target);
    expect(links).toEqual(["data:,", "chat.css", "chat.js"]);
    expect(page).toContain("default-src 'none'; script-src 'self'; style-src 'self';");
    for (const name of ["chat.css", "chat.js"]) {
      const file = await fetch(new URL(name, started.pageUrl));
      const text = await file.text();
      expect(file.status).toBe(200);
      expect(text).not.toMatch(/https?:|url\(|@import|^import\b|innerHTML|insertAdjacentHTML|document\.write/m);
    }
  });

  test("puts a client into the lobby with its connect answer: it hears the others without asking for anything", async () => {
    using ada = await visit("Ada");
    using zoe = await visit("Zoë 漢字");
    zoe.text(command("say", "lobby", "¿qué tal? <b>"));
    const line = { kind: "say", to: "lobby", from: "Zoë 漢字", text: "¿qué tal? <b>", at: expect.any(String) };
    expect(await nextLine(ada, "say")).toEqual(line);
    expect(await nextLine(zoe, "say")).toEqual(line);
    ada.close(1000);
    expect((await ada.closed()).code).toBe(1000);
  });

  test("a room's messages reach who is in the room by then, not who has left it or was never there", async () => {
    using ada = await visit("Ada");
    using zoe = await visit("Zoë");
    using eve = await visit("Eve");
    // A name that needs every kind of escape in a path.
    const room = "täglich? #1/2 100%";
    for (const client of [ada, zoe, eve]) {
      client.text(command("join", room));
      expect(await nextLine(client, "join")).toEqual({ kind: "join", to: room });
    }
    eve.text(command("leave", room));
    expect(await nextLine(eve, "leave")).toEqual({ kind: "leave", to: room });
    ada.text(command("say", room, "members only"));
    ada.text(command("say", "lobby", "for all"));
    for (const client of [ada, zoe]) {
      expect(await nextLine(client, "say")).toMatchObject({ to: room, from: "Ada", text: "members only" });
      expect(await nextLine(client, "say")).toMatchObject({ to: "lobby", text: "for all" });
    }
    // One caller's messages keep their order, so any message to the room would have come before.
    expect(await nextLine(eve, "say")).toMatchObject({ to: "lobby", text: "for all" });
    eve.text(command("say", room, "let me in"));
    expect(await nextLine(eve, "notice", "say")).toEqual({ kind: "notice", text: `You are not in ${room}.` });
  });

  test("a private message reaches every tab of both names, and nobody else", async () => {
    using ada = await visit("Ada");
    using zoe = await visit("Zoë/?#%");
    using zoeAgain = await visit("Zoë/?#%");
    using eve = await visit("Eve");
    ada.text(command("tell", "Zoë/?#%", "psst"));
    ada.text(command("say", "lobby", "for all"));
    for (const client of [ada, zoe, zoeAgain]) {
      expect(await nextLine(client, "tell", "say")).toMatchObject({
        kind: "tell",
        from: "Ada",
        to: "Zoë/?#%",
        text: "psst",
      });
    }
    expect(await nextLine(eve, "tell", "say")).toMatchObject({ kind: "say", text: "for all" });
    ada.text(command("tell", "Nobody", "psst"));
    expect(await nextLine(ada, "notice")).toEqual({ kind: "notice", text: "Nobody is not here." });
  });

  test("tells who is here, and in which rooms, when somebody comes, joins and goes", async () => {
    using ada = await visit("Ada");
    ada.text(command("hello", "lobby"));
    const here = async (client: RawWebSocket, name: string): Promise<unknown[]> => {
      const { people } = (await nextLine(client, "here")) as { people: { name: string; rooms: string[] }[] };
      return people.filter((one) => one.name === name).map(({ rooms }) => rooms);
    };
    /** Reads lists until one says this: a list that was made before the change may still come. */
    const until = async (rooms: string[][]) => {
      while (!Bun.deepEquals(await here(ada, "Grace"), rooms));
    };
    await until([]);
    using grace = await visit("Grace");
    grace.text(command("hello", "lobby"));
    await until([["lobby"]]);
    expect(await here(grace, "Grace")).toEqual([["lobby"]]);
    grace.text(command("join", "tea"));
    await until([["lobby", "tea"]]);
    grace.reset();
    await until([]);
  });

  test("refuses a bad name with the backend's own 400, and a client without one", async () => {
    for (const name of ["", "   ", "a\u0007b", "..", "x".repeat(41)]) {
      using client = await enter(name);
      const { status, body } = await client.answer();
      expect(status).toBe(400);
      expect(body.toString()).toStartWith("A name has 1 to 40 characters");
    }
  });

  test("answers what is no command with a notice", async () => {
    using client = await visit("Ada");
    const nonsense = [
      "",
      "hello",
      "null",
      "[]",
      "{}",
      command("shout", "lobby"),
      command("join", ".."),
      command("say", ""),
    ];
    for (const text of nonsense) {
      client.text(text);
      expect(await nextLine(client, "notice", "join")).toEqual({
        kind: "notice",
        text: "This chat does not know what that is.",
      });
    }
    client.binary(Uint8Array.of(0xff, 0x00));
    expect(await nextLine(client, "notice")).toMatchObject({ kind: "notice" });
  });

  test("takes events that the printed key signed, and no others", async () => {
    const post = async (event: string, signature: string | null): Promise<number> => {
      const response = await fetch(new URL(`chat/api/${event}`, started.pageUrl), {
        method: "POST",
        headers: {
          "X-ASRS-Connection-Id": "some-connection",
          "X-ASRS-Client-Query": "name=Mallory",
          "Content-Type": "text/plain",
          ...(signature === null ? {} : { "X-ASRS-Signature": signature }),
        },
      });
      await response.body?.cancel();
      return response.status;
    };
    const sign = (key: string) => `sha256=${createHmac("sha256", key).update("some-connection").digest("hex")}`;
    for (const event of ["connect", "message", "disconnect"]) {
      expect(await post(event, null)).toBe(401);
      expect(await post(event, sign("another key"))).toBe(401);
      expect(await post(event, `sha256=${"0".repeat(64)},${sign(started.accessKey)}`)).toBeWithin(200, 205);
    }
    expect(await post("elsewhere", sign(started.accessKey))).toBe(404);
  });
});

test("SIGTERM to npm closes clients with 1012, ends everything with exit code 0 and frees both ports", async () => {
  const { npm, examplePort, gatewayPort, pageUrl, accessKey } = await startExample(join(folder, "data"));
  await using _ = npm;
  using client = await RawWebSocket.open({ port: gatewayPort, path: "/ws/client/hubs/chat?name=Ada" });
  await client.nextText();
  npm.child.kill("SIGTERM");
  expect(await client.closed()).toEqual({ code: 1012, reason: "shutting down" });
  expect(await within(npm.ended, "npm start to end")).toBe(0);
  expect(await listenOnce(examplePort)).toBe(examplePort);
  expect(await listenOnce(gatewayPort)).toBe(gatewayPort);

  // npm's own two lines start with `>`. The key is in the one line that hands it over.
  const lines = npm
    .stdout()
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith(">"));
  expect(lines).toEqual([
    `The chat example's page and backend: ${pageUrl}`,
    `hubwire listens on http://127.0.0.1:${gatewayPort}`,
    expect.stringMatching(/^connection string: /),
    `Open ${pageUrl} in two browser tabs.`,
  ]);
  expect(npm.stderr()).not.toContain(accessKey);
  expect(npm.stderr()).not.toContain("event not delivered");
});

test("a key that the environment gives is not printed", async () => {
  const { npm, accessKey } = await startExample(join(folder, "data"), {
    HUBWIRE_ACCESS_KEYS_PRIMARY: "a-key-from-the-environment-of-32-bytes",
  });
  await using _ = npm;
  expect(accessKey).toBe("***");
  expect(npm.stdout() + npm.stderr()).not.toContain("a-key-from-the-environment");
});

test("a taken example port ends npm start with a sentence that names EXAMPLE_PORT", async () => {
  await using first = (await startExample(join(folder, "data"))).npm;
  const [, port = ""] = await first.printed(/page and backend: http:\/\/127\.0\.0\.1:(\d+)/);
  await using second = startCommand("exec npm start", {
    env: { HUBWIRE_LISTEN_PORT: "0", EXAMPLE_PORT: port, XDG_DATA_HOME: join(folder, "share") },
  });
  expect(await within(second.ended, "npm start to end")).toBe(1);
  expect(second.stderr()).toContain("EXAMPLE_PORT chooses another");
});

test("npm start with a file runs the gateway alone, and names the key's file instead of the key", async () => {
  const dataDir = join(folder, "kept");
  await using npm = startCommand("exec npm start -- --config examples/chat/hubwire.yaml", {
    env: { HUBWIRE_LISTEN_PORT: "0", HUBWIRE_DATA_DIR: dataDir },
  });
  const [line] = await npm.printed(/^connection string: .*$/m);
  const keyFile = join(dataDir, "access-key");
  expect(line).toContain("AccessKey=***;");
  expect(line).toContain(keyFile);
  expect(npm.stdout()).not.toContain("Open ");
  npm.child.kill("SIGTERM");
  expect(await within(npm.ended, "npm start to end")).toBe(0);
  expect(npm.stdout() + npm.stderr()).not.toContain(readFileSync(keyFile, "utf8").trim());
});

test("the backend has fewer than 150 lines", () => {
  expect(readFileSync(join(REPOSITORY, "examples/chat/server.ts"), "utf8").trimEnd().split("\n").length).toBeLessThan(
    150,
  );
});

test("without a connection string the backend says what to set, and stops", async () => {
  for (const given of ["", "AccessKey=some-key;"]) {
    await using backend = startCommand("exec npx bun examples/chat/server.ts", {
      env: { HUBWIRE_CONNECTION_STRING: given },
    });
    expect(await within(backend.ended, "the backend to end")).toBe(1);
    expect(backend.stderr()).toContain("Set HUBWIRE_CONNECTION_STRING to the gateway's: Endpoint=http://…;AccessKey=…");
    expect(backend.stderr()).not.toContain("some-key");
  }
});

/** A command of the example's README, on a port of the test. */
function readmeBlock(fence: string, gatewayPort: number): string {
  const readme = readFileSync(join(REPOSITORY, "examples/chat/README.md"), "utf8");
  const [, code] = new RegExp(`^\`\`\`${fence}\n([\\s\\S]*?)^\`\`\`$`, "m").exec(readme) ?? [];
  if (code === undefined) throw new Error(`the example's README has no block ${fence}`);
  return code.replace("127.0.0.1:8080", `127.0.0.1:${gatewayPort}`);
}

test("the README's parts by themselves; a backend started anew closes clients it does not know, so that they come back", async () => {
  const [port, gatewayPort] = [await findFreePort(), await findFreePort()];
  const dataHome = { XDG_DATA_HOME: join(folder, "by-themselves") };
  await using gateway = startCommand(readmeBlock("sh gateway", gatewayPort), {
    env: {
      HUBWIRE_LISTEN_PORT: String(gatewayPort),
      ...dataHome,
      HUBWIRE_UPSTREAMS: JSON.stringify([{ urlTemplate: `http://127.0.0.1:${port}/{hub}/api/{event}` }]),
    },
  });
  await gateway.printed(/^hubwire listens on /m);
  const startBackend = async () => {
    const backend = startCommand(readmeBlock("sh backend", gatewayPort), { env: { PORT: String(port), ...dataHome } });
    await backend.printed(/page and backend: http/);
    return backend;
  };
  await using first = await startBackend();
  using client = await RawWebSocket.open({ port: gatewayPort, path: "/ws/client/hubs/chat?name=Ada" });
  await client.nextText();
  await first[Symbol.asyncDispose]();
  await using _ = await startBackend();
  client.text(JSON.stringify({ kind: "say", to: "lobby", text: "still there?" }));
  expect(await client.closed()).toEqual({ code: 1000, reason: "the chat was away, please write again" });
});
