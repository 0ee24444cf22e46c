import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { Gate, within } from "../support/deadline.ts";
import { KEYS } from "../support/gateway.ts";
import { startGatewayProcess } from "../support/process.ts";
import { acceptAs, RawBackend } from "../support/raw-backend.ts";
import { RawWebSocket } from "../support/raw-websocket.ts";
import { connectionIdOf, ofConnection, Stack } from "../support/stack.ts";

/** Shutdown: calls in flight finish, clients get 1012, every disconnect is sent, the process exits with 0. */
setDefaultTimeout(90_000);

describe("gateway.stop()", () => {
  test("closes every connection with 1012 and sends every disconnect before it resolves", async () => {
    await using stack = await Stack.start();
    const lives = [await stack.connect(), await stack.connect(), await stack.connect()];
    await within(stack.gateway.stop(), "stop()");
    for (const { client, connectionId } of lives) {
      expect((await client.closed()).code).toBe(1012);
      await client.ended();
      const [disconnect] = stack.backend.of("disconnect", ofConnection(connectionId));
      expect(disconnect?.header("X-Hubwire-Close-Code")).toBe("1012");
      expect(disconnect?.header("X-Hubwire-Close-Reason")).toBe("shutting down");
    }
    expect(stack.backend.of("disconnect").length).toBe(3);
  });

  test("lets the call in flight finish and delivers its answer before the 1012", async () => {
    await using stack = await Stack.start();
    const gate = new Gate();
    const { client } = await stack.connect();
    stack.backend.onMessage = async (exchange) => {
      await gate.opened;
      exchange.reply(200, [], "the last answer");
    };
    client.text("question");
    await stack.backend.next("message");
    const stopped = stack.gateway.stop();
    gate.open();
    expect(await client.nextText()).toBe("the last answer");
    expect((await client.closed()).code).toBe(1012);
    await within(stopped, "stop()");
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/message", "/chat/api/disconnect"]);
  });

  test("sends the disconnect of a handshake whose 2xx comes during the shutdown", async () => {
    await using stack = await Stack.start();
    const gate = new Gate();
    stack.backend.onConnect = async (exchange) => {
      await gate.opened;
      acceptAs("alice")(exchange);
    };
    await stack.request();
    await stack.backend.next("connect");
    const stopped = stack.gateway.stop();
    gate.open();
    await within(stopped, "stop()");
    expect(stack.targets()).toEqual(["/chat/api/connect", "/chat/api/disconnect"]);
  });

  test("posts queued messages before the disconnect", async () => {
    await using stack = await Stack.start();
    const gate = new Gate();
    const { client } = await stack.connect();
    stack.backend.onMessage = async (exchange) => {
      await gate.opened;
      exchange.reply(204);
    };
    client.text("1", "2", "3");
    await stack.backend.next("message");
    const stopped = stack.gateway.stop();
    gate.open();
    await within(stopped, "stop()");
    expect(stack.backend.of("message").map((message) => message.body.toString())).toEqual(["1", "2", "3"]);
    expect(stack.targets().at(-1)).toBe("/chat/api/disconnect");
  });

  test("may be called twice, and nothing is accepted afterwards", async () => {
    await using stack = await Stack.start();
    const { client } = await stack.connect();
    await within(Promise.all([stack.gateway.stop(), stack.gateway.stop()]), "stop()");
    await within(stack.gateway.stop(), "stop()");
    expect((await client.closed()).code).toBe(1012);
    expect(stack.backend.of("disconnect").length).toBe(1);
    const late = await stack.request();
    await late.ended();
    expect(stack.backend.of("connect").length).toBe(1);
  });

  test("ends within drainTimeoutMs when the upstream never answers", async () => {
    await using stack = await Stack.start({ config: { shutdown: { drainTimeoutMs: 1000 } } });
    const { client } = await stack.connect();
    stack.backend.onMessage = async (exchange) => void (await exchange.callerGone);
    stack.backend.onDisconnect = async (exchange) => void (await exchange.callerGone);
    client.text("question");
    await stack.backend.next("message");
    await within(stack.gateway.stop(), "stop()");
    await client.ended();
  });
});

describe.each([
  ["SIGTERM", "bin"],
  ["SIGINT", "bin"],
  ["SIGTERM", "npm"],
] as const)("%s to a real process started by %s", (signal, through) => {
  test("finishes the call in flight, closes with 1012, sends every disconnect and exits with 0", async () => {
    await using backend = await RawBackend.start();
    const config = { accessKeys: KEYS, upstreams: [{ urlTemplate: `${backend.url}/{hub}/api/{event}` }] };
    await using gateway = await startGatewayProcess({ through, config });
    using busy = await RawWebSocket.open({ port: gateway.port });
    const busyId = connectionIdOf(await backend.next("connect"));
    using idle = await RawWebSocket.open({ port: gateway.port });
    const idleId = connectionIdOf(await backend.next("connect"));
    const gate = new Gate();
    backend.onMessage = async (exchange) => {
      await gate.opened;
      exchange.reply(200, [], "in time");
    };
    busy.text("question");
    await backend.next("message");
    gateway.child.kill(signal);
    // The idle client's close shows that the shutdown has begun while the call is still in flight.
    expect((await idle.closed()).code).toBe(1012);
    gate.open();
    expect(await busy.nextText()).toBe("in time");
    expect((await busy.closed()).code).toBe(1012);
    expect(await within(gateway.exited, "the exit")).toBe(0);
    for (const id of [busyId, idleId]) {
      const disconnects = backend.of("disconnect", ofConnection(id));
      expect(disconnects.map((request) => request.header("X-Hubwire-Close-Code"))).toEqual(["1012"]);
      expect(disconnects[0]?.header("X-Hubwire-Close-Reason")).toBe("shutting down");
    }
    expect(backend.requests.length).toBe(5);
  });
});
