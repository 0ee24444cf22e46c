import { expect, setDefaultTimeout } from "bun:test";
import { isUnsafeVersion } from "../../src/nats/server-version.ts";
import { Cluster } from "../support/cluster.ts";
import { REPOSITORY, startCommand } from "../support/command.ts";
import { within } from "../support/deadline.ts";
import { needs } from "../support/programs.ts";

const { test } = needs("nats-server");

/** A NATS server that is known to lose acknowledged writes is told of, by the log and by `hubwire check`. */
setDefaultTimeout(60_000);

const MESSAGE = "NATS server is too old: it may lose acknowledged writes, and disconnect events with them";

test("a server below 2.10.23 is a warning in the log and of hubwire check", async () => {
  await using cluster = await Cluster.start({ nodeCount: 1, urlTemplate: "http://127.0.0.1:1/" });
  const node = cluster.node(0);
  const [, version = ""] = /Version: *v?([0-9.]+)/i.exec(cluster.nats.output()) ?? [];
  const sentence = `NATS server ${version} is older than 2.10.23: killed with SIGKILL it may lose what JetStream acknowledged`;
  const isTold = isUnsafeVersion(version);
  const lines = node.logLines().filter(({ msg }) => msg === MESSAGE);
  expect(lines.map(({ level, reason }) => [level, reason])).toEqual(isTold ? [[40, sentence]] : []);
  await using check = startCommand(`node bin/hubwire.mjs check --config '${node.configFile}'`, { cwd: REPOSITORY });
  expect(await within(check.ended, "the check's end")).toBe(0);
  expect(check.stdout().includes(`warning: ${sentence}`)).toBe(isTold);
});
