import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { once } from "node:events";
import { createServer } from "node:net";
import { KEYS } from "../support/gateway.ts";
import type { RawAnswer } from "../support/raw-websocket.ts";
import { type Member, RestStage } from "../support/rest-stage.ts";
import { jsonError } from "../support/stack.ts";
import { forge } from "./attacks/forge.ts";
import {
  ALGORITHM_ATTACKS,
  type Attack,
  AUDIENCE_ATTACKS,
  claimsFor,
  FORM_ATTACKS,
  keyHeaderAttacks,
  SIGNATURE_ATTACKS,
  type Target,
  TIME_ATTACKS,
} from "./attacks/token-attacks.ts";

/**
 * Every token of the lists in attacks/token-attacks.ts is refused at every door, with the code that says why. Behind each
 * the service still serves, the backend was asked nothing, and no client was sent anything.
 *
 * Source: PROTOCOL.md, "Authentication of the client" and "REST API".
 * Anonymous clients are let in here, so that a token that is overlooked would show.
 */
setDefaultTimeout(60_000);

const CLIENT_PATH = "/ws/client/hubs/chat";
const REST_PATH = "/ws/api/hubs/chat/messages";

let stage: RestStage;
let member: Member;
beforeAll(async () => {
  stage = await RestStage.start();
  member = await stage.member();
});
afterAll(async () => {
  await stage.stop();
});

interface Door {
  readonly name: string;
  readonly path: string;
  readonly show: (token: string) => Promise<RawAnswer>;
}

const DOORS: readonly Door[] = [
  {
    name: "client, in the query",
    path: CLIENT_PATH,
    show: (token) => knock({ path: `${CLIENT_PATH}?access_token=${encodeURIComponent(token)}` }),
  },
  {
    name: "client, in the header",
    path: CLIENT_PATH,
    show: (token) => knock({ path: CLIENT_PATH, lines: [`Authorization: Bearer ${token}`] }),
  },
  {
    name: "REST",
    path: REST_PATH,
    show: (token) => stage.call({ method: "POST", target: REST_PATH, type: "text/plain", body: "owned", token }),
  },
];

async function knock(options: { path: string; lines?: readonly string[] }): Promise<RawAnswer> {
  const client = await stage.stack.request(options);
  try {
    return await client.answer();
  } finally {
    client.destroy();
  }
}

const target = (path: string): Target => ({ origin: `http://127.0.0.1:${stage.port}`, path });

/** Shows a token, expects 401 with the code, and that nothing has come of it: no event, no message, no harm. */
async function expectRefused(show: () => Promise<RawAnswer>, code: string): Promise<void> {
  const eventsBefore = stage.stack.targets().length;
  const answer = await show();
  const told = answer.body.toString("utf8");
  expect([answer.status, told]).toEqual([401, expect.any(String)]);
  expect(jsonError(answer.body).code).toBe(code);
  for (const secret of [KEYS.primary, KEYS.secondary]) expect(told).not.toContain(secret);
  await stage.stack.cycle();
  expect(stage.stack.targets().length).toBe(eventsBefore);
  expect(await stage.received("chat", member)).toEqual([[]]);
}

describe.each(DOORS)("$name", ({ path, show }) => {
  test("a good token opens it, so what follows is refused for what is wrong with it", async () => {
    // At a hub of its own: the events of `chat` are counted.
    const answer = await show(forge(claimsFor(target(path), { exp: 1 }), { key: KEYS.primary }));
    expect(jsonError(answer.body).code).toBe("token_expired");
  });

  const lists: readonly (readonly [string, readonly Attack[]])[] = [
    ["algorithm", ALGORITHM_ATTACKS],
    ["signature", SIGNATURE_ATTACKS],
    ["form", FORM_ATTACKS],
    ["time", TIME_ATTACKS],
    ["audience", AUDIENCE_ATTACKS],
  ];
  for (const [title, attacks] of lists) {
    describe(title, () => {
      test.each(attacks)("%s", async (_name, token, code) => {
        await expectRefused(() => show(token(target(path))), code);
      });
    });
  }

  test("headers that name a key are believed by nobody: it is not fetched", async () => {
    let fetches = 0;
    const server = createServer((socket) => {
      fetches++;
      socket.destroy();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    for (const [, token, code] of keyHeaderAttacks(`http://127.0.0.1:${port}/jwks.json`)) {
      await expectRefused(() => show(token(target(path))), code);
    }
    server.close();
    expect(fetches).toBe(0);
  });
});
