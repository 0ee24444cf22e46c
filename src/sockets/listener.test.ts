import { expect, test } from "bun:test";
import { type RecordingReport, recordingReport, someFacts } from "../../test/support/core-stage.ts";
import { OPCODE } from "../../test/support/frame-codec.ts";
import { RawWebSocket } from "../../test/support/raw-websocket.ts";
import { Connection } from "../core/connection.ts";
import type { Lifecycle } from "../core/lifecycle.ts";

import { Meters } from "../core/meters.ts";

import { parseClientEndpoint } from "../protocol/client-endpoint.ts";

import { BunSocket } from "./bun-socket.ts";
import { type Listener, listen } from "./listener.ts";
import type { Upgrade } from "./upgrade.ts";

/** A listener that lets everybody in. */
function open(lifecycle: Partial<Lifecycle>, report: RecordingReport): Listener {
  const handle: Upgrade["handle"] = async ({ request }, server) => {
    server.upgrade(request, { data: new BunSocket(new Connection(someFacts()), null, 0) });
    return undefined;
  };
  const findEndpoint: Upgrade["findEndpoint"] = parseClientEndpoint;
  const upgrade: Pick<Upgrade, "handle" | "findEndpoint"> = { handle, findEndpoint };
  return listen(
    {
      host: "127.0.0.1",
      port: 0,
      reusePort: false,
      keepAliveMs: 75_000,
      tls: null,
      websocket: { compression: false, maxMessageBytes: 65_536, maxOutboxBytes: 1_000_000 },
      peerBehind: null,
    },
    {
      upgrade: upgrade as Upgrade,
      lifecycle: lifecycle as Lifecycle,
      report,
      meters: new Meters(),
      refuse: () => new Response(null, { status: 400 }),
      route: () => null,
    },
  );
}

test("what is published does not overtake what was sent to a member in the same turn, and both arrive before the stop", async () => {
  const opened: BunSocket[] = [];
  const lifecycle: Pick<Lifecycle, "opened" | "closed"> = {
    opened: (_connection, socket) => void opened.push(socket as BunSocket),
    closed: () => {},
  };
  const listener = open(lifecycle, recordingReport());
  const client = await RawWebSocket.open({ port: listener.port });
  const socket = opened[0];
  if (socket === undefined) throw new Error("nothing has opened");
  socket.subscribe("hub");
  const expected: string[] = [];
  for (let round = 0; round < 20; round++) {
    socket.sendSoon(`to the member ${round}`);
    listener.publish("hub", `to all ${round}`);
    expected.push(`to the member ${round}`, `to all ${round}`);
  }
  socket.sendSoon("last");
  await listener.stop();
  const texts: string[] = [];
  while (texts.at(-1) !== "last") {
    const { opcode, payload } = await client.frame();
    if (opcode === OPCODE.text) texts.push(payload.toString("utf8"));
  }
  expect(texts).toEqual([...expected, "last"]);
  client.destroy();
});

test("what a WebSocket handler throws is reported as the error that it is", async () => {
  const bug = new Error("a bug");
  const lifecycle: Pick<Lifecycle, "opened" | "pinged" | "closed"> = {
    opened: () => {},
    pinged: () => {
      throw bug;
    },
    closed: () => {},
  };
  const report = recordingReport();
  const listener = open(lifecycle, report);
  const client = await RawWebSocket.open({ port: listener.port });
  client.send({ opcode: OPCODE.ping, payload: "" });
  // The pong goes out before the handler runs.
  await client.frame();
  while (report.faults.length === 0) await new Promise(setImmediate);
  expect(report.faults).toEqual([bug]);
  client.destroy();
  await listener.stop();
});
