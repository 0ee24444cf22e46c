import { describe, expect, test } from "bun:test";
import { FakeClock } from "../../test/support/fake-clock.ts";
import type { AuthorizationFault } from "./authorization.ts";
import { type IssuedToken, TokenCache } from "./token-cache.ts";

/** A source whose answers the test gives, one at a time. */
class Source {
  readonly asked: ((token: IssuedToken | AuthorizationFault) => void)[] = [];
  readonly faults: string[] = [];

  fetchToken(): Promise<IssuedToken | AuthorizationFault> {
    return new Promise((resolve) => this.asked.push(resolve));
  }

  stop(): void {}
}

function start() {
  const clock = new FakeClock();
  const source = new Source();
  const cache = new TokenCache(source, clock, (fault) => source.faults.push(fault));
  return { clock, source, cache };
}

/** A cache that holds the token `t0` of this lifetime. */
async function startWith(lifetimeSeconds: number) {
  const started = start();
  const first = started.cache.obtain();
  started.source.asked[0]?.({ accessToken: "t0", lifetimeSeconds });
  await first;
  return started;
}

const bearer = (token: string) => [["Authorization", `Bearer ${token}`]];

describe("TokenCache", () => {
  test("asks once for all that wait", async () => {
    const { cache, source } = start();
    expect(cache.current()).toBeNull();
    const all = Promise.all([cache.obtain(), cache.obtain(), cache.obtain()]);
    source.asked[0]?.({ accessToken: "t0", lifetimeSeconds: 100 });
    expect(await all).toEqual([bearer("t0"), bearer("t0"), bearer("t0")] as never);
    expect(source.asked).toHaveLength(1);
  });

  test.each([
    [100, 80_000],
    [3600, 3_540_000],
  ])("renews a token of %p s behind the calls' backs after %p ms", async (lifetimeSeconds, renewAtMs) => {
    const { cache, clock, source } = await startWith(lifetimeSeconds);
    clock.advanceSync(renewAtMs - 1);
    cache.current();
    expect(source.asked).toHaveLength(1);
    clock.advanceSync(1);
    expect(cache.current()).toEqual(bearer("t0") as never);
    cache.current();
    expect(source.asked).toHaveLength(2);
    const renewed = cache.obtain();
    source.asked[1]?.({ accessToken: "t1", lifetimeSeconds });
    await renewed;
    expect(cache.current()).toEqual(bearer("t1") as never);
  });

  test("gives no token that has ended", async () => {
    const { cache, clock } = await startWith(100);
    clock.advanceSync(99_999);
    expect(cache.current()).not.toBeNull();
    clock.advanceSync(1);
    expect(cache.current()).toBeNull();
  });

  test("keeps the old token while a renewal fails, and leaves the source alone for a second", async () => {
    const { cache, clock, source } = await startWith(100);
    clock.advanceSync(80_000);
    cache.current();
    const failed = cache.obtain();
    source.asked[1]?.({ fault: "down" });
    expect(await failed).toEqual({ fault: "down" });
    expect(source.faults).toEqual(["down"]);
    expect(cache.current()).toEqual(bearer("t0") as never);
    clock.advanceSync(999);
    expect(await cache.obtain()).toEqual({ fault: "down" });
    expect(source.asked).toHaveLength(2);
    clock.advanceSync(1);
    cache.current();
    expect(source.asked).toHaveLength(3);
  });

  test("drops a token that the upstream refused", async () => {
    const { cache, clock } = await startWith(1000);
    clock.advanceSync(10_000);
    const used = cache.current();
    expect(used).not.toBeNull();
    cache.rejected(used ?? []);
    expect(cache.current()).toBeNull();
  });

  test("keeps a token that is only just made, since backends refuse clients with 401 too", async () => {
    const { cache, clock } = await startWith(1000);
    clock.advanceSync(9999);
    cache.rejected(cache.current() ?? []);
    expect(cache.current()).not.toBeNull();
  });

  test("keeps the token that is newer than the refused one", async () => {
    const { cache, clock } = await startWith(1000);
    clock.advanceSync(20_000);
    cache.rejected([["Authorization", "Bearer older"]]);
    expect(cache.current()).toEqual(bearer("t0") as never);
  });

  test.each([
    [{ accessToken: "a\r\nX: y", lifetimeSeconds: 100 }],
    [{ accessToken: "", lifetimeSeconds: 100 }],
    [{ accessToken: "t", lifetimeSeconds: 0 }],
    [{ accessToken: "t", lifetimeSeconds: Number.NaN }],
  ])("refuses a token that cannot be used: %j", async (token) => {
    const { cache, source } = start();
    const obtained = cache.obtain();
    source.asked[0]?.(token);
    expect(await obtained).toHaveProperty("fault");
    expect(cache.current()).toBeNull();
  });
});
