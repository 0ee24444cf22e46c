import { expect, setDefaultTimeout } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrowserContext, Frame, Locator, Page } from "playwright-core";
import { type StartedExample, startExample } from "../support/chat-example.ts";
import { launchChromium } from "../support/chromium.ts";
import { COMMANDS_TIMEOUT_MS, REPOSITORY } from "../support/command.ts";
import { needs } from "../support/programs.ts";

const { afterAll, beforeAll, test } = needs("chromium");

setDefaultTimeout(COMMANDS_TIMEOUT_MS);

const SCREENSHOT = join(REPOSITORY, "test-results", "chat.png");

let folder: string;
let started: StartedExample;
let browser: BrowserContext;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "hubwire-browser-"));
  mkdirSync(join(REPOSITORY, "test-results"), { recursive: true });
  started = await startExample(join(folder, "data"));
  browser = await launchChromium(join(folder, "profile"));
});
afterAll(async () => {
  await browser?.close();
  await started?.npm[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** Fills in a field and sends its form, as a script does: keys would go to whichever frame has the focus. */
async function submit(field: Locator, text: string): Promise<void> {
  await field.evaluate((input: { value: string; form: { requestSubmit(): void } }, value) => {
    input.value = value;
    input.form.requestSubmit();
  }, text);
}

/** Somebody in the chat: in a tab, or in one of many frames of a tab. */
class Guest {
  readonly name: string;
  readonly view: Page | Frame;

  private constructor(name: string, view: Page | Frame) {
    this.name = name;
    this.view = view;
  }

  /** Enters by a page that has loaded. */
  static async enter(name: string, view: Page | Frame): Promise<Guest> {
    await submit(view.getByLabel("Your name"), name);
    await view.getByText(`Connected as ${name}.`).waitFor();
    await view.getByText(`Welcome, ${name}.`).waitFor();
    return new Guest(name, view);
  }

  /** Presses a room or a person in the lists at the side. */
  async choose(list: "Rooms" | "People", name: string): Promise<void> {
    await this.view.getByRole("list", { name: list }).getByRole("button", { name }).press("Enter");
    await this.#shows(name);
  }

  async joinByName(room: string): Promise<void> {
    await submit(this.view.getByLabel("Another room"), room);
    await this.#shows(room);
  }

  /** Writes into the conversation that is shown. */
  async write(text: string): Promise<void> {
    await submit(this.view.locator("#text:enabled"), text);
  }

  /** Waits until a message is there, shown or not, and returns all messages of all conversations. */
  async messagesUpTo(last: string): Promise<string[]> {
    await this.view.locator(".log p", { hasText: last }).waitFor({ state: "attached" });
    return await this.view.locator(".log p:not(.notice) > span").allTextContents();
  }

  async #shows(title: string): Promise<void> {
    await this.view.getByRole("heading", { level: 2, name: title, exact: true }).waitFor();
  }
}

/** A test's tabs; they close with it. */
class Tabs implements AsyncDisposable {
  readonly #pages: Page[] = [];

  async open(url = started.pageUrl): Promise<Page> {
    const page = await browser.newPage();
    this.#pages.push(page);
    await page.goto(url);
    return page;
  }

  async enter(name: string, url = started.pageUrl): Promise<Guest> {
    return await Guest.enter(name, await this.open(url));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#pages.map((page) => page.close()));
  }
}

/** So many chat pages, each with its own WebSocket, side by side in one tab: fifty tabs take a minute to draw. */
async function openFrames(page: Page, count: number): Promise<Frame[]> {
  await page.evaluate(
    `document.body.innerHTML = '<iframe src="/" width="600" height="500"></iframe>'.repeat(${count})`,
  );
  const frames = await Promise.all(
    Array.from({ length: count }, (_, index) => page.locator("iframe").nth(index).elementHandle()),
  );
  return (await Promise.all(frames.map((frame) => frame?.contentFrame()))).filter((frame) => frame != null);
}

test("two tabs see each other and each other's messages, and text stays text", async () => {
  await using tabs = new Tabs();
  const ada = await tabs.enter("Ada");
  const zoe = await tabs.enter("Zoë");
  await ada.view.getByText("2 here: Ada, Zoë").waitFor();
  await zoe.view.getByText("2 here: Zoë, Ada").waitFor();
  await ada.write("hello <b>Zoë</b>");
  expect(await zoe.messagesUpTo("hello")).toEqual(["Ada hello <b>Zoë</b>"]);
  await zoe.write("hi");
  for (const tab of [ada, zoe]) expect(await tab.messagesUpTo("Zoë hi")).toEqual(["Ada hello <b>Zoë</b>", "Zoë hi"]);
  expect(await zoe.view.locator(".log b").count()).toBe(0);
  await ada.view.getByRole("button", { name: "Leave the chat" }).press("Enter");
  await zoe.view.getByText("1 here: Zoë").waitFor();
});

test("a room's message reaches the room only, also by a room's button", async () => {
  await using tabs = new Tabs();
  const ada = await tabs.enter("Ada");
  const zoe = await tabs.enter("Zoë");
  const eve = await tabs.enter("Eve");
  await ada.joinByName("tea & biscuits");
  await zoe.choose("Rooms", "tea & biscuits");
  await ada.view.getByText("2 here: Ada, Zoë").waitFor();
  await ada.write("members only");
  expect(await zoe.messagesUpTo("members only")).toEqual(["Ada members only"]);
  await ada.choose("Rooms", "lobby");
  await ada.write("for all");
  for (const tab of [ada, zoe]) expect(await tab.messagesUpTo("for all")).toContain("Ada members only");
  // One caller's messages keep their order: what had been sent to the room would have come before.
  expect(await eve.messagesUpTo("for all")).toEqual(["Ada for all"]);
  await zoe.view.getByRole("button", { name: "lobby 3 1 unread" }).waitFor();
  await zoe.view.getByRole("button", { name: "Leave room" }).press("Enter");
  await zoe.view.getByRole("heading", { level: 2, name: "lobby", exact: true }).waitFor();
  await ada.view.getByRole("button", { name: "tea & biscuits 1" }).waitFor();
});

test("a private message reaches one person only", async () => {
  await using tabs = new Tabs();
  const ada = await tabs.enter("Ada");
  const zoe = await tabs.enter("Zoë");
  const eve = await tabs.enter("Eve");
  await ada.choose("People", "Zoë");
  await ada.write("psst");
  await ada.choose("Rooms", "lobby");
  await ada.write("for all");
  await zoe.messagesUpTo("for all");
  await zoe.choose("People", "Ada");
  await zoe.view.getByText("Only you and Ada see this.").waitFor();
  expect(await zoe.view.getByRole("log").getByText("psst").count()).toBe(1);
  expect(await ada.messagesUpTo("for all")).toContain("Ada psst");
  expect(await eve.messagesUpTo("for all")).toEqual(["Ada for all"]);
});

test("a tab reconnects without a click after the gateway and the backend were away, and is in its rooms again", async () => {
  await using tabs = new Tabs();
  const first = await startExample(join(folder, "away"));
  await using _first = first.npm;
  const ada = await tabs.enter("Ada", first.pageUrl);
  await ada.joinByName("tea");
  await first.npm[Symbol.asyncDispose]();
  await ada.view.getByText("Trying again in").waitFor();
  await ada.view.getByText("The connection has ended.").waitFor();
  expect(await ada.view.locator("#text").isDisabled()).toBe(true);

  const again = { EXAMPLE_PORT: String(first.examplePort), HUBWIRE_LISTEN_PORT: String(first.gatewayPort) };
  const second = await startExample(join(folder, "away"), again);
  await using _second = second.npm;
  await ada.view.getByText("Connected as Ada.").waitFor();
  await ada.view.getByText("1 here: Ada").waitFor();
  await ada.write("back in tea");
  expect(await ada.messagesUpTo("back in tea")).toEqual(["Ada back in tea"]);
});

test("fifty people chat: every message reaches all fifty, once", async () => {
  await using tabs = new Tabs();
  const page = await tabs.open();
  // A page of the same origin that has no policy against frames.
  const frames = await openFrames(await tabs.open(new URL("gateway", started.pageUrl).href), 49);
  const names = Array.from({ length: 50 }, (_, index) => `Guest ${String(index + 1).padStart(2, "0")}`);
  const guests = await Promise.all([page, ...frames].map((view, index) => Guest.enter(names[index] ?? "", view)));
  const [first] = guests;
  if (first === undefined) throw new Error("nobody is there");
  await Promise.all(guests.map(({ view }) => view.getByText("50 here:").waitFor()));

  await Promise.all(guests.map((guest) => guest.write(`greetings from ${guest.name}`)));
  const greetings = names.map((name) => `${name} greetings from ${name}`);
  // The last word is written when all others have arrived somewhere, so after it nothing can come.
  for (const greeting of greetings) await first.messagesUpTo(greeting);
  await first.write("thanks, all");
  const received = await Promise.all(guests.map((guest) => guest.messagesUpTo("thanks, all")));
  expect(received.flat()).toHaveLength(50 * 51);
  for (const messages of received) {
    expect(messages.at(-1)).toBe("Guest 01 thanks, all");
    expect(messages.slice(0, -1).sort()).toEqual(greetings.toSorted());
  }

  const [second, third] = guests.slice(1);
  for (const guest of [second, third]) await guest?.joinByName("tea");
  await second?.write("a room of our own");
  await third?.choose("People", "Guest 01");
  await third?.write("a word in private");
  await page.getByRole("button", { name: "Guest 03 1 unread" }).waitFor();
  await page.screenshot({ path: SCREENSHOT });
});
