import { expect, setDefaultTimeout, test } from "bun:test";
import { until } from "../../test/support/deadline.ts";
import { freePort, NatsServer } from "../../test/support/nats-server.ts";
import { NatsLink } from "./link.ts";

/** A server in lame-duck mode is left at once, long before it closes its connections. */
setDefaultTimeout(60_000);

const OPTIONS = { user: null, password: null, token: null, credsFile: null, tls: null };
const LAME_DUCK = 'lame_duck_grace_period: "60s"\nlame_duck_duration: "120s"\n';

test("a server in lame-duck mode is followed by another one at once", async () => {
  const ports = await Promise.all([0, 1].map(freePort));
  const routes = ports.map((port) => `nats-route://127.0.0.1:${port}`).join(", ");
  const configOf = (port: number | undefined, index: number) =>
    `${LAME_DUCK}server_name: s${index}\ncluster { name: c, listen: "127.0.0.1:${port}", no_advertise: true, routes: [${routes}] }`;
  await using first = await NatsServer.start({ config: configOf(ports[0], 0) });
  await using second = await NatsServer.start({ config: configOf(ports[1], 1) });
  const told: string[] = [];
  const link = NatsLink.start(
    { ...OPTIONS, servers: [first.url, second.url] },
    { up: (server) => void told.push(`up ${server}`), down: (cause) => void told.push(cause), refused: () => {} },
  );
  try {
    await until(() => link.isUp, "the link");
    const server = () => link.connection?.getServer().split(":").at(-1);
    const [from, to] = server() === String(first.port) ? [first, second] : [second, first];
    process.kill(from.pid, "SIGUSR2");
    await until(() => link.isUp && server() === String(to.port), "the other server");
    // It would have kept the connection for a minute.
    expect(() => process.kill(from.pid, 0)).not.toThrow();
    expect(told.filter((words) => words.startsWith("up"))).toHaveLength(2);
  } finally {
    await link.stop();
  }
});

test("a server that is the only one is kept for as long as it is there", async () => {
  await using server = await NatsServer.start({ config: LAME_DUCK });
  const told: string[] = [];
  const link = NatsLink.start(
    { ...OPTIONS, servers: [server.url] },
    { up: () => void told.push("up"), down: (cause) => void told.push(cause), refused: () => {} },
  );
  try {
    await until(() => link.isUp, "the link");
    process.kill(server.pid, "SIGUSR2");
    await until(() => link.connection?.info?.ldm === true, "the server's word");
    await link.connection?.flush();
    expect([link.isUp, told]).toEqual([true, ["up"]]);
  } finally {
    await link.stop();
  }
});
