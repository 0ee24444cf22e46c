import { afterEach, beforeEach, expect, test } from "bun:test";
import { within } from "../../test/support/deadline.ts";
import { RawBackend } from "../../test/support/raw-backend.ts";
import {
  connectEvent,
  DIALECT,
  messageEvent,
  startUpstream,
  type TestUpstream,
  upstreamEntry,
} from "../../test/support/upstream/fixture.ts";
import type { Dialect } from "../protocol/dialect.ts";

/** A bug in a dialect ends the call that met it: nobody waits for it any longer. */

let backend: RawBackend;

beforeEach(async () => {
  backend = await RawBackend.start();
});

afterEach(() => backend.stop());

function bug(): never {
  throw new Error("a bug in the dialect");
}

function start(broken: Partial<Dialect>): TestUpstream {
  const dialects = { asrs: { ...DIALECT, ...broken } };
  return startUpstream([upstreamEntry(`${backend.url}/{event}`)], { dialects });
}

/** How a message's call ended. */
function post(upstream: TestUpstream): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  upstream.post(messageEvent(), {
    onReply: () => resolve("reply"),
    onFailure: ({ kind }) => resolve(kind),
    onFault: (error) => resolve(String(error)),
  });
  return within(promise, "the end of the message");
}

test.each(["readReply", "start", "shapeOf", "tail"] as const)(
  "in %s: the message's listener hears of it",
  async (name) => {
    await using upstream = start({ [name]: bug });
    expect(await post(upstream)).toBe("Error: a bug in the dialect");
  },
);

test.each(["readConnect", "form"] as const)("in %s: connect is rejected", async (name) => {
  await using upstream = start({ [name]: bug });
  const ended = upstream.connect(connectEvent(), null).then(
    () => "it resolved",
    (error) => String(error),
  );
  expect(await within(ended, "the end of connect")).toBe("Error: a bug in the dialect");
});
