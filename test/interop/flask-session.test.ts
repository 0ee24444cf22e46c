import { expect, setDefaultTimeout } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrowserContext, Page } from "playwright-core";
import { launchChromium } from "../support/chromium.ts";
import {
  COMMANDS_TIMEOUT_MS,
  findFreePort,
  REPOSITORY,
  type RunningCommand,
  startCommand,
} from "../support/command.ts";
import { CommandGateway } from "../support/command-gateway.ts";
import { KEYS } from "../support/gateway.ts";
import { needs } from "../support/programs.ts";

/** The Flask example as its README starts it, in a browser: a session cookie says who opens a WebSocket. */

const { afterAll, beforeAll, beforeEach, test } = needs("chromium", "python3-flask");

setDefaultTimeout(COMMANDS_TIMEOUT_MS);

const EXAMPLE = join(REPOSITORY, "examples", "flask");

let folder: string;
let site: RunningCommand;
let siteUrl: string;
let websocketUrl: string;
let gateway: CommandGateway;
let browser: BrowserContext;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-flask-"));
  const port = await findFreePort();
  siteUrl = `http://127.0.0.1:${port}`;
  const config = readFileSync(join(EXAMPLE, "hubwire.yaml"), "utf8").replaceAll(":5000", `:${port}`);
  const env = { HUBWIRE_ACCESS_KEYS_PRIMARY: KEYS.primary };
  gateway = await CommandGateway.start({ config, fileName: "hubwire.yaml", env });
  websocketUrl = `ws://127.0.0.1:${gateway.port}`;
  // By its path: another Python may come first, and has no packages of Debian's.
  site = startCommand(`exec /usr/bin/python3 -m flask --app app.py run --port ${port} 2>&1`, {
    cwd: EXAMPLE,
    env: { HUBWIRE_ACCESS_KEY: KEYS.primary, HUBWIRE_URL: websocketUrl, PYTHONDONTWRITEBYTECODE: "1" },
  });
  await site.printed(/Running on /);
  browser = await launchChromium(join(folder, "profile"));
});
afterAll(async () => {
  await browser?.close();
  await site?.[Symbol.asyncDispose]();
  await gateway?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(() => browser.clearCookies());

/** A tab with the site's page. */
async function openPage(url = siteUrl): Promise<Page & AsyncDisposable> {
  const page = await browser.newPage();
  await page.goto(url);
  return Object.assign(page, { [Symbol.asyncDispose]: () => page.close() });
}

async function logIn(page: Page, name: string, password: string): Promise<void> {
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
}

/** What becomes of a WebSocket that a script of the page opens: `open`, or `refused`. */
async function tryWebSocket(page: Page): Promise<string> {
  const script = `new Promise((resolve) => {
    const socket = new WebSocket(${JSON.stringify(`${websocketUrl}/ws/client/hubs/site`)});
    socket.onopen = () => { socket.close(); resolve("open"); };
    socket.onerror = () => resolve("refused");
  })`;
  return await page.evaluate<string>(script);
}

/** Waits until the gateway has logged that it refused a client with this code. */
const refused = (code: string) => gateway.lines(new RegExp(`"code":"${code}"[^\n]*"msg":"connection refused"`));

test("who has logged in by the form is known when the WebSocket opens", async () => {
  await using page = await openPage();
  await logIn(page, "ada", "lovelace");
  await page.getByText("You are logged in as ada.").waitFor();
  await page.getByText("Hello ada. WebSockets of this session: 1.").waitFor();
  await page.getByLabel("Message").fill("is it me?");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText("ada, you said: is it me?").waitFor();
});

test("the session that the connect event sets anew is the browser's: Set-Cookie comes with the 101", async () => {
  await using page = await openPage();
  await logIn(page, "grace", "hopper");
  for (const count of [1, 2, 3]) {
    await page.getByText(`Hello grace. WebSockets of this session: ${count}.`).waitFor();
    await page.reload();
  }
});

test("a browser without a login is refused, and so is one with a wrong password or after its logout", async () => {
  await using page = await openPage();
  expect(await tryWebSocket(page)).toBe("refused");
  await logIn(page, "ada", "wrong");
  await page.getByText("Name or password is wrong.").waitFor();
  expect(await tryWebSocket(page)).toBe("refused");
  await logIn(page, "ada", "lovelace");
  await page.getByText("Hello ada.").waitFor();
  expect(await tryWebSocket(page)).toBe("open");
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("button", { name: "Log in" }).waitFor();
  expect(await tryWebSocket(page)).toBe("refused");
  // The answer is the site's own, not one of hubwire's.
  await refused("relayed");
});

test("a page of another origin is refused, though the browser is logged in to the site", async () => {
  await using page = await openPage();
  await logIn(page, "ada", "lovelace");
  await page.getByText("Hello ada.").waitFor();
  await using foreign = await openPage(siteUrl.replace("127.0.0.1", "localhost"));
  expect(await tryWebSocket(foreign)).toBe("refused");
  await refused("origin_denied");
});

test("events without the signature are refused", async () => {
  const answer = await fetch(`${siteUrl}/hubwire/connect`, {
    method: "POST",
    headers: { "X-ASRS-Connection-Id": "c1" },
  });
  expect([answer.status, await answer.text()]).toEqual([401, "The event is not signed with the access key."]);
});
