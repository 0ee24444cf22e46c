import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { listOptions, optionName } from "../../src/config/options.ts";
import { Gate, until } from "../support/deadline.ts";
import { acceptAs } from "../support/raw-backend.ts";
import type { RawAnswer } from "../support/raw-websocket.ts";
import { jsonError, Stack } from "../support/stack.ts";

/** Limits that hold for each client address: whom they count as one, and what the log says of those they refuse. */
setDefaultTimeout(60_000);

/** Each limit, and the code of its refusal. */
const LIMITS: readonly (readonly [string, string])[] = [
  ["maxPendingUpgradesPerAddress", "pending_upgrade_rate"],
  ["connectsPerSecondPerAddress", "connect_rate"],
];

/** Held by limits-places.test.ts. */
const PLACES = "upstreams[].maxConcurrencyPerAddress";

test("the limits below, and that on places, are all that hold for each address", () => {
  const names = listOptions()
    .map(optionName)
    .filter((name) => name.endsWith("PerAddress"));
  expect(names.toSorted()).toEqual([...LIMITS.map(([name]) => `limits.${name}`), PLACES].toSorted());
});

const from = (address: string) => ({ lines: [`X-Forwarded-For: ${address}`] });

/** A gateway behind a trusted proxy, with a limit of 1, whose backend holds every connect. */
async function startWith(limit: string): Promise<{ stack: Stack; gate: Gate }> {
  const stack = await Stack.start({ config: { trustedProxies: ["127.0.0.1"], limits: { [limit]: 1 } } });
  const gate = new Gate();
  stack.backend.onConnect = async (exchange) => {
    await gate.opened;
    acceptAs("ada")(exchange);
  };
  return { stack, gate };
}

/** A client from each address in turn, until one is refused: its answer. Null where the backend has heard of all of them. */
async function firstRefused(stack: Stack, addresses: readonly string[]): Promise<RawAnswer | null> {
  for (const address of addresses) {
    const before = stack.backend.of("connect").length;
    let answer: RawAnswer | null = null;
    const client = await stack.request(from(address));
    client.answer().then(
      (given) => {
        answer = given;
      },
      () => {},
    );
    await until(() => answer !== null || stack.backend.of("connect").length > before, "an answer or a connect event");
    if (answer !== null) return answer;
  }
  return null;
}

/** Fifty times the same addresses: the rate's allowance fills up again while a slow machine asks. */
const inTurn = (...addresses: readonly string[]) => Array.from({ length: 50 }, () => addresses).flat();
const manyOf = (network: string) => Array.from({ length: 50 }, (_, i) => `${network}${(i + 1).toString(16)}`);

describe.each(LIMITS)("%s", (limit, code) => {
  test.each([
    ["one IPv4 address", inTurn("192.0.2.1")],
    ["a /64 of IPv6 addresses", manyOf("2001:db8::ffff:")],
    ["an IPv4 address and its IPv4-mapped forms", inTurn("192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201")],
  ])("counts as one client: %s", async (_what, addresses) => {
    const { stack } = await startWith(limit);
    await using _stack = stack;
    const refused = await firstRefused(stack, addresses);
    expect([refused?.status, jsonError(refused?.body ?? Buffer.from("{}"))]).toMatchObject([
      429,
      { code, target: limit },
    ]);
    expect(refused?.head.header("Retry-After")).toBe("1");
  });

  test("counts apart: IPv4 addresses, and IPv6 addresses of different /64", async () => {
    const { stack, gate } = await startWith(limit);
    await using _stack = stack;
    const addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1", "2001:db9::1", "unknown"];
    expect(await firstRefused(stack, addresses)).toBeNull();
    gate.open();
  });

  test("a refused client that is no trusted proxy and sent X-Forwarded-For: the log names trustedProxies", async () => {
    const { stack } = await startWith(limit);
    await using _stack = stack;
    const proxy = { localAddress: "127.0.0.2" };
    for (let i = 0; i < 50 && stack.gateway.logLines().every(({ msg }) => msg !== "connection refused"); i++) {
      const before = stack.backend.of("connect").length;
      await stack.request({ ...from(`192.0.2.${i}`), ...proxy });
      const isRefused = () => stack.gateway.logLines().some(({ msg }) => msg === "connection refused");
      await until(() => isRefused() || stack.backend.of("connect").length > before, "a refusal or a connect event");
    }
    const line = await stack.gateway.logged("connection refused");
    expect(line).toMatchObject({ code, clientAddress: "127.0.0.2", note: expect.stringContaining("trustedProxies") });
  });
});
