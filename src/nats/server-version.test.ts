import { expect } from "bun:test";
import { NatsServer } from "../../test/support/nats-server.ts";
import { needs } from "../../test/support/programs.ts";
import { describeUnsafe, findUnsafeServers, isUnsafeVersion } from "./server-version.ts";

const { describe, test } = needs("nats-server");

describe("a NATS server's version", () => {
  test.each([
    ["2.9.10", true],
    ["2.10.22", true],
    ["2.10.23", false],
    ["2.10.23-RC.1", false],
    ["2.11.0", false],
    ["1.99.99", true],
    ["3.0.0", false],
    ["", false],
    ["newest", false],
  ])("%p is too old: %p", (version, isUnsafe) => {
    expect(isUnsafeVersion(version)).toBe(isUnsafe);
  });

  test("is asked of every server that is there", async () => {
    await using server = await NatsServer.start();
    const [, version = ""] = /Version: *v?([0-9.]+)/i.exec(server.output()) ?? [];
    expect(version).not.toBe("");
    const found = await findUnsafeServers([server.url, "nats://127.0.0.1:1", server.url]);
    expect(found).toEqual(isUnsafeVersion(version) ? [describeUnsafe(version)] : []);
  });
});
