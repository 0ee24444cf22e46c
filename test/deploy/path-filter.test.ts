import { expect, setDefaultTimeout } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DEPLOY } from "../support/manifests.ts";
import { Nginx } from "../support/nginx.ts";
import { spelledSends } from "../support/path-spellings.ts";
import { needs } from "../support/programs.ts";
import { unusedPort } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { audienceOf, RestClient, restToken } from "../support/rest-client.ts";
import { got, type Member, RestStage } from "../support/rest-stage.ts";

const { afterAll, beforeAll, describe, test } = needs("nginx");

/** The guide's path filter in a real nginx, before a gateway whose REST API shares the clients' listener. */
setDefaultTimeout(60_000);

const guide = readFileSync(join(DEPLOY, "../docs/guides/deploy.md"), "utf8");
const [, FILTER = ""] = /^```nginx filter\n(.*?)^```$/ms.exec(guide) ?? [];
const FIRST_RULE = /^ {2}if \(\$request_uri .*?^ {2}\}\n/ms;

let stage: RestStage;
let member: Member;
beforeAll(async () => {
  stage = await RestStage.start({ config: { trustedProxies: ["127.0.0.1"] } });
  member = await stage.member();
});
afterAll(() => stage.stop());

/** The filter as it is in the guide, or changed; returns its port. */
async function startFilter(server: string): Promise<{ port: number; nginx: Nginx }> {
  const port = await unusedPort();
  const own = server
    .replace("listen 80;", `listen 127.0.0.1:${port};`)
    .replace("127.0.0.1:8080", `127.0.0.1:${stage.port}`);
  const text = `error_log /dev/stderr crit; events {} http { access_log off; ${own} }`;
  return { port, nginx: await Nginx.start(text, port) };
}

/** The spelled sends that were taken by hubwire. */
async function passing(port: number): Promise<string[]> {
  const taken: string[] = [];
  for (const { target, meant } of spelledSends(`127.0.0.1:${port}`)) {
    using caller = await RestClient.dial(port);
    const token = restToken(audienceOf(port, meant));
    const { status } = await caller.call({ method: "POST", target, type: "text/plain", body: target, token });
    if (status === 202) taken.push(target);
    else expect([target, [400, 404]]).toEqual([target, expect.arrayContaining([status])]);
  }
  return taken;
}

test("no spelling of a REST path passes the guide's filter, and nothing reaches the clients", async () => {
  const { port, nginx } = await startFilter(FILTER);
  await using _ = nginx;
  expect(await passing(port)).toEqual([]);
  expect(await stage.received("chat", member)).toEqual([[]]);
});

test("without its first rule some do, so hubwire is not what holds them back", async () => {
  expect(FILTER).toMatch(FIRST_RULE);
  const { port, nginx } = await startFilter(FILTER.replace(FIRST_RULE, ""));
  await using _ = nginx;
  const taken = await passing(port);
  expect(taken).toContain("/ws/client/hubs/chat\\..\\..\\..\\api\\hubs\\chat\\messages");
  expect(await stage.received("chat", member)).toEqual([taken.map((target) => got("text", target))]);
});

describe("clients pass the filter", () => {
  const paths = [
    "/ws/client",
    "/client/",
    "/ws/client/hubs/chat",
    "/client/hubs/a.b,c[0]/",
    "/client/hubs/%63hat",
    "/ws/client?hub=chat",
    "/ws/client/hubs/chat?path=/../..%5c%2f\\",
  ];
  test.each(paths)("%s", async (path) => {
    const { port, nginx } = await startFilter(FILTER);
    await using _ = nginx;
    const client = await RawWebSocket.open({ port, path });
    client.text("hello");
    expect(await client.nextText()).toBe("hello");
    client.destroy();
  });

  test("and health", async () => {
    const { port, nginx } = await startFilter(FILTER);
    await using _ = nginx;
    expect((await fetch(`http://127.0.0.1:${port}/api/health`)).status).toBe(200);
  });
});
