import { expect } from "bun:test";
import { existsSync } from "node:fs";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { NatsServer } from "./nats-server.ts";
import { needs } from "./programs.ts";

const { test } = needs("nats-server");

test("streams outlive a kill and a restart on the same port", async () => {
  await using server = await NatsServer.start();
  const { url } = server;
  const connection = await connect({ servers: url });
  await (await jetstreamManager(connection)).streams.add({ name: "KEPT", subjects: ["kept"] });
  await connection.close();
  await server.stop("SIGKILL");
  await expect(connect({ servers: url, reconnect: false })).rejects.toThrow();
  await server.restart();
  expect(server.url).toBe(url);
  const again = await connect({ servers: url });
  expect((await (await jetstreamManager(again)).streams.info("KEPT")).config.name).toBe("KEPT");
  await again.close();
});

test("the configuration's text is in force", async () => {
  await using server = await NatsServer.start({ config: 'authorization: { token: "let-me-in" }\n' });
  await expect(connect({ servers: server.url, reconnect: false })).rejects.toThrow();
  await (await connect({ servers: server.url, token: "let-me-in" })).close();
});

test("its process and folder are gone in the end", async () => {
  const server = await NatsServer.start();
  const { pid, folder } = server;
  await server[Symbol.asyncDispose]();
  expect(() => process.kill(pid, 0)).toThrow();
  expect(existsSync(folder)).toBe(false);
});

test("what the server says is told when it does not start", async () => {
  await expect(NatsServer.start({ config: "nonsense: {" })).rejects.toThrow("nats-server does not start");
});

test("answers nobody while it is frozen, and goes on when it is thawed", async () => {
  await using server = await NatsServer.start();
  const connection = await connect({ servers: server.url });
  for (let time = 0; time < 20; time++) {
    await server.freeze();
    const flushed = connection.flush().then(() => "answered");
    const turns = new Promise<string>((resolve) => setImmediate(() => setImmediate(resolve, "silent")));
    expect(await Promise.race([flushed, turns])).toBe("silent");
    server.thaw();
    expect(await flushed).toBe("answered");
  }
  await connection.close();
});
