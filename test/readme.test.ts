import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseConfig } from "../src/config/load.ts";
import { COMMANDS_TIMEOUT_MS, findFreePort, REPOSITORY, type RunningCommand, startCommand } from "./support/command.ts";
import { within } from "./support/deadline.ts";
import { RawWebSocket } from "./support/raw-websocket.ts";

setDefaultTimeout(COMMANDS_TIMEOUT_MS);

const README = readFileSync(join(REPOSITORY, "README.md"), "utf8");

/** Used as a fresh clone, so that what the README saves does not end up in this one. */
let clone: string;

beforeAll(() => {
  clone = mkdtempSync(join(tmpdir(), "hubwire-readme-"));
  cpSync(join(REPOSITORY, "package.json"), join(clone, "package.json"));
  for (const name of ["bin", "src", "examples", "node_modules"]) symlinkSync(join(REPOSITORY, name), join(clone, name));
});
afterAll(() => rmSync(clone, { recursive: true, force: true }));

/** The code block whose fence says this, word for word but for the ports. */
function block(fence: string, ports: Readonly<Record<string, number>>): string {
  const [, code] = new RegExp(`^\`\`\`${fence}\n([\\s\\S]*?)^\`\`\`$`, "m").exec(README) ?? [];
  if (code === undefined) throw new Error(`README.md has no block \`\`\`${fence}`);
  return code.replaceAll(/\b(?:7071|8080)\b/g, (port) => String(ports[port] ?? port));
}

test("the README's backend, file, commands and client do what it says, as they are pasted", async () => {
  const ports = { 7071: await findFreePort(), 8080: await findFreePort() };
  writeFileSync(join(clone, "backend.mjs"), block("js backend.mjs", ports));
  writeFileSync(join(clone, "hubwire.yaml"), block("yaml hubwire.yaml", ports));
  // The one port that is written down nowhere, since it is the default.
  const env = { HUBWIRE_LISTEN_PORT: String(ports[8080]) };

  await using backend = startCommand(block("sh backend", ports), { cwd: clone });
  await backend.printed(/the backend listens on port \d+/);
  await using gateway = startCommand(block("sh gateway", ports), { cwd: clone, env });
  await gateway.printed(/^hubwire listens on /m);

  await using client = startCommand(block("sh client", ports), { cwd: clone });
  expect(await within(client.ended, "the client to end")).toBe(0);
  expect(client.stdout()).toBe("Ada, you said: Hello!\n");
  await backend.printed(/^Ada has left, with close code 1000$/m);
  for (const line of [client.stdout().trim(), "Ada has left, with close code 1000"]) {
    expect(README).toContain(`\`${line}\``);
  }

  using nameless = await RawWebSocket.request({ port: ports[8080] });
  const refused = await nameless.answer();
  expect([refused.status, refused.body.toString()]).toEqual([401, "Connect with ?name=…"]);

  await using listener = startCommand(block("sh listener", ports), { cwd: clone });
  using caller = await RawWebSocket.open({ port: ports[8080], path: "/ws/client/hubs/chat?name=Ada" });
  await untilThere(() => startCommand(lines("sh send", ports)[0] ?? "", { cwd: clone, env }));
  await using send = startCommand(block("sh send", ports), { cwd: clone, env });
  expect([await within(send.ended, "the sends"), send.stdout()]).toEqual([0, "yes\n"]);
  writeFileSync(join(clone, "send.mjs"), block("js send.mjs", ports));
  await using program = startCommand(block("sh program", ports), { cwd: clone });
  expect([await within(program.ended, "the program"), program.stderr()]).toEqual([0, ""]);
  expect(program.stdout().trim()).toBe("202");
  await listener.printed(/^Hello, Grace!\nHello from a program!\n$/);
  caller.text("Was that for me?");
  expect(await caller.nextText()).toBe("Ada, you said: Was that for me?");

  await using token = startCommand(block("sh token", ports), { cwd: clone, env });
  expect(await within(token.ended, "the token")).toBe(0);
  const { pathname, search } = new URL(token.stdout().trim());
  using named = await RawWebSocket.open({ port: ports[8080], path: `${pathname}${search}&name=Grace` });
  named.text("Hi");
  expect(await named.nextText()).toBe("Grace, you said: Hi");
});

/** The commands of a block, one a line. */
function lines(fence: string, ports: Readonly<Record<string, number>>): string[] {
  return block(fence, ports).trim().split("\n");
}

/** Runs a command again and again until it exits with 0. The listener says nothing when it has connected. */
async function untilThere(start: () => RunningCommand): Promise<void> {
  for (;;) {
    await using command = start();
    if ((await within(command.ended, "the command")) === 0) return;
  }
}

test("the README's backend has about twenty lines", () => {
  expect(block("js backend.mjs", {}).trim().split("\n").length).toBeLessThanOrEqual(22);
});

test("the README says what its sends print", () => {
  for (const line of ["yes", "Hello, Grace!", "202", "Hello from a program!"]) expect(README).toContain(`\`${line}\``);
});

test("the default ports of the README's commands are those that hubwire and its example take", () => {
  const { listen } = parseConfig({});
  for (const fence of ["sh client", "sh listener"]) {
    expect(block(fence, {})).toContain(`ws://${listen.host}:${listen.port}/`);
  }
  expect(block("js send.mjs", {})).toContain(`http://${listen.host}:${listen.port}/`);
  expect(block("yaml hubwire.yaml", {})).toContain(
    /urlTemplate: .*/.exec(readFileSync(join(REPOSITORY, "examples/chat/hubwire.yaml"), "utf8"))?.[0] ?? "no template",
  );
});

test.each([
  "README.md",
  "PROTOCOL.md",
  "ARCHITECTURE.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  "CHANGELOG.md",
  "docs/guides/deploy.md",
  "docs/guides/many-cores.md",
  "examples/chat/README.md",
])("every link of %s within the repository leads somewhere", (name) => {
  const text = readFileSync(join(REPOSITORY, name), "utf8");
  const links = [...text.matchAll(/\]\((?!https?:|mailto:)([^)#]*)(?:#([^)]+))?\)/g)];
  for (const [, path = "", anchor] of links) {
    const target = path === "" ? join(REPOSITORY, name) : join(REPOSITORY, dirname(name), path);
    expect([path, existsSync(target)]).toEqual([path, true]);
    if (anchor !== undefined) expect(headingAnchors(readFileSync(target, "utf8"))).toContain(anchor);
  }
});

/** The anchors under which GitHub finds a document's headings. */
function headingAnchors(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

test("every file that the map of ARCHITECTURE.md names is there", () => {
  const [, map = ""] =
    /^## Map of src$([\s\S]*?)^## /m.exec(readFileSync(join(REPOSITORY, "ARCHITECTURE.md"), "utf8")) ?? [];
  const sources = readdirSync(join(REPOSITORY, "src"), { recursive: true, encoding: "utf8" });
  let folder = "";
  let count = 0;
  for (const [, heading, name = ""] of map.matchAll(/^### ([\w-]+\/)$|`([\w*-]+\.ts)`/gm)) {
    folder = heading ?? folder;
    if (heading !== undefined) continue;
    count++;
    const pattern = new RegExp(`^${folder}${name.replaceAll(".", "\\.").replaceAll("*", "[^/]*")}$`);
    expect([folder + name, sources.some((path) => pattern.test(path))]).toEqual([folder + name, true]);
  }
  expect(count).toBeGreaterThan(60);
});
