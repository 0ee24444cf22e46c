import { expect, test } from "bun:test";
import { until, within } from "../../test/support/deadline.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { hearing } from "../../test/support/notices.ts";
import { type Exchange as BackendExchange, RawBackend } from "../../test/support/raw-backend.ts";
import { SYSTEM_TLS } from "../config/tls-files.ts";
import { Deadlines } from "./deadlines.ts";
import { resolveBySystem } from "./destination.ts";
import { HttpClient } from "./http-client.ts";
import { LateAnswers } from "./late-answers.ts";
import { formatRequest } from "./request-bytes.ts";
import { parseOrigin } from "./url-template.ts";

test("one late answer more than may be waited for ends the oldest wait, its socket too, and is reported", async () => {
  await using backend = await RawBackend.start();
  const asked: BackendExchange[] = [];
  backend.onOther = (exchange) => void asked.push(exchange);
  const clock = new FakeClock();
  const origin = parseOrigin(backend.url);
  if (origin === null) throw new Error("no origin");
  const maxBodyBytes = () => 1000;
  const client = new HttpClient({
    origin,
    tls: SYSTEM_TLS,
    allowed: null,
    resolve: resolveBySystem,
    maxBodyBytes,
    clock,
  });
  let dropped = 0;
  const report = hearing({ "late-answer-dropped": () => dropped++ });
  const deadlines = new Deadlines(clock);
  const lates = new LateAnswers({ deadlines, maxWaiting: 2, entry: "upstreams[0]", report });
  /** In an object: a promise that an async function returns would be waited for. */
  const start = async (target: string) => {
    const owner = {
      mayRepeat: true,
      isEventId: () => true,
      readsBody: () => true,
      formatRequest: () => new Uint8Array(),
      onExchangeEnd: () => expect.unreachable(),
    };
    const request = { method: "POST", target, headers: [], body: new Uint8Array() } as const;
    const exchange = client.send(owner, formatRequest(request, "Host: test\r\n"));
    await until(() => asked.some(({ request: seen }) => seen.target === target), "the request");
    return { late: lates.wait(exchange, clock.now() + 1000) };
  };
  const first = await start("/1");
  const second = await start("/2");
  expect(dropped).toBe(0);
  const third = await start("/3");
  expect([await first.late, dropped]).toEqual([{ kind: "none" }, 1]);
  await within(asked[0]?.callerGone ?? Promise.resolve(), "the end of the oldest socket");
  for (const exchange of asked.slice(1)) exchange.reply(200);
  expect([await second.late, await third.late]).toMatchObject([{ status: 200 }, { status: 200 }]);
  // Those that have ended take no room.
  const [fourth, fifth] = [await start("/4"), await start("/5")];
  for (const exchange of asked.slice(3)) exchange.reply(204);
  expect([await fourth.late, await fifth.late]).toMatchObject([{ status: 204 }, { status: 204 }]);
  expect(dropped).toBe(1);
  client.stop();
});
