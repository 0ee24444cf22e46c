import { describe, expect, test } from "bun:test";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { AllowedHosts } from "../config/allowed-hosts.ts";
import { ADDRESSES_KEPT_MS, Destination, resolveBySystem } from "./destination.ts";

const ADDRESSES = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];

function start(hostname: string, resolve = async (): Promise<readonly string[]> => ADDRESSES) {
  const clock = new FakeClock();
  return { clock, destination: new Destination({ hostname, allowed: new AllowedHosts(["*"]), resolve, clock }) };
}

describe("the addresses of a name", () => {
  test("are known without waiting while they are fresh", async () => {
    const { clock, destination } = start("h.example");
    expect(destination.current()).toBeNull();
    expect(await destination.find()).toEqual(ADDRESSES);
    clock.advanceSync(ADDRESSES_KEPT_MS - 1);
    expect(destination.current()).toEqual(ADDRESSES);
    clock.advanceSync(1);
    expect(destination.current()).toBeNull();
  });

  test("keep an order in which those that refused or were slow come last, until the next lookup", async () => {
    const { destination } = start("h.example");
    await destination.find();
    destination.demote("127.0.0.1");
    destination.demote("127.0.0.9");
    expect(destination.current()).toEqual(["127.0.0.2", "127.0.0.3", "127.0.0.1"]);
    expect(await destination.find()).toEqual(ADDRESSES);
  });

  test("are forgotten where none could be connected to", async () => {
    const { destination } = start("h.example");
    await destination.find();
    destination.forget();
    expect(destination.current()).toBeNull();
  });

  test("that were refused are not kept: the next lookup may find better ones", async () => {
    const { destination } = start("h.example", async () => ["169.254.169.254"]);
    expect(await destination.find()).toHaveProperty("fault");
    expect(destination.current()).toBeNull();
  });

  test("of this machine are known to the system", async () => {
    expect(await resolveBySystem("localhost")).toContain("127.0.0.1");
  });
});

test("an address is not looked up, and is judged without waiting", () => {
  const never = () => Promise.reject(new Error("no lookup is needed"));
  expect(start("10.0.0.1", never).destination.current()).toEqual(["10.0.0.1"]);
  expect(start("::ffff:a9fe:a9fe", never).destination.current()).toHaveProperty("fault");
});
