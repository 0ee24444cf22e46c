import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createHmac } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { COMMANDS_TIMEOUT_MS, findFreePort, listenOnce, type RunningCommand, startCommand } from "./support/command.ts";
import { within } from "./support/deadline.ts";
import { RawWebSocket } from "./support/raw-websocket.ts";

setDefaultTimeout(COMMANDS_TIMEOUT_MS);

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-example-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** `npm start` on free ports, once it has printed its last line. */
interface StartedExample {
  readonly npm: RunningCommand;
  readonly examplePort: number;
  readonly gatewayPort: number;
  readonly pageUrl: string;
  readonly accessKey: string;
}

async function startExample(env: Readonly<Record<string, string>> = {}): Promise<StartedExample> {
  const examplePort = await findFreePort();
  const npm = startCommand("exec npm start", {
    env: {
      HUBWIRE_LISTEN_PORT: "0",
      EXAMPLE_PORT: String(examplePort),
      HUBWIRE_DATA_DIR: join(folder, "data"),
      ...env,
    },
  });
  try {
    const [, pageUrl = ""] = await npm.printed(/^Open (http:\S+) in two browser tabs\.$/m);
    const [, port = "", accessKey = ""] = await npm.printed(
      /^connection string: Endpoint=http:\/\/127\.0\.0\.1:(\d+);AccessKey=([^;]+);Version=1\.0;$/m,
    );
    return { npm, examplePort, gatewayPort: Number(port), pageUrl, accessKey };
  } catch (fault) {
    await npm[Symbol.asyncDispose]();
    throw fault;
  }
}

describe("npm start", () => {
  let started: StartedExample;

  beforeAll(async () => {
    started = await startExample();
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

  test("serves a page that loads nothing from elsewhere and says what is still to come", async () => {
    const response = await fetch(started.pageUrl);
    const page = await response.text();
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(page).toContain("<title>hubwire chat</title>");
    expect(page.replaceAll(/\s+/g, " ")).toContain(
      "Until hubwire’s REST API lands, the answer reaches the sender only",
    );
    expect(page).not.toMatch(/\b(?:src|href)\s*=\s*"(?!data:)/);
    expect(page).not.toContain("innerHTML");
  });

  test("lets two clients chat: each gets its welcome, and its own lines back from the backend", async () => {
    using ada = await enter("Ada");
    using zoe = await enter("Zoë 漢字");
    for (const [client, name] of [
      [ada, "Ada"],
      [zoe, "Zoë 漢字"],
    ] as const) {
      await client.upgraded();
      const welcome = JSON.parse(await client.nextText());
      expect(welcome).toEqual({ kind: "notice", text: expect.stringContaining(`Welcome, ${name}.`) });
    }
    ada.text("hello from Ada");
    zoe.text("¿qué tal? <b>");
    const toAda = JSON.parse(await ada.nextText());
    const toZoe = JSON.parse(await zoe.nextText());
    expect(toAda).toEqual({ kind: "message", from: "Ada", text: "hello from Ada", at: expect.any(String) });
    expect(toZoe).toEqual({ kind: "message", from: "Zoë 漢字", text: "¿qué tal? <b>", at: expect.any(String) });
    ada.close(1000);
    expect((await ada.closed()).code).toBe(1000);
  });

  test("refuses a bad name with the backend's own 400, and a client without one", async () => {
    for (const name of ["", "   ", "a\u0007b", "x".repeat(41)]) {
      using client = await enter(name);
      const { status, body } = await client.answer();
      expect(status).toBe(400);
      expect(body.toString()).toStartWith("A name has 1 to 40 characters");
    }
  });

  test("answers a message in bytes with a notice", async () => {
    using client = await enter("Ada");
    await client.upgraded();
    await client.nextText();
    client.binary(Uint8Array.of(0xff, 0x00));
    expect(JSON.parse(await client.nextText())).toEqual({
      kind: "notice",
      text: "This chat takes text messages only.",
    });
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

test("SIGTERM to npm closes clients with 1001, ends everything with exit code 0 and frees both ports", async () => {
  const { npm, examplePort, gatewayPort, pageUrl, accessKey } = await startExample();
  await using _ = npm;
  using client = await RawWebSocket.open({ port: gatewayPort, path: "/ws/client/hubs/chat?name=Ada" });
  await client.nextText();
  npm.child.kill("SIGTERM");
  expect(await client.closed()).toEqual({ code: 1001, reason: "shutting down" });
  expect(await within(npm.ended, "npm start to end")).toBe(0);
  expect(await listenOnce(examplePort)).toBe(examplePort);
  expect(await listenOnce(gatewayPort)).toBe(gatewayPort);

  // npm's own two lines start with `>`. The key stands in the one line that hands it over.
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
  const { npm, accessKey } = await startExample({
    HUBWIRE_ACCESS_KEYS_PRIMARY: "a-key-from-the-environment-of-32-bytes",
  });
  await using _ = npm;
  expect(accessKey).toBe("***");
  expect(npm.stdout() + npm.stderr()).not.toContain("a-key-from-the-environment");
});

test("a taken example port ends npm start with a sentence that names EXAMPLE_PORT", async () => {
  await using first = (await startExample()).npm;
  const [, port = ""] = await first.printed(/page and backend: http:\/\/127\.0\.0\.1:(\d+)/);
  await using second = startCommand("exec npm start", { env: { HUBWIRE_LISTEN_PORT: "0", EXAMPLE_PORT: port } });
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
