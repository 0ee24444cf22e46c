import { expect, setDefaultTimeout } from "bun:test";
import { until, within } from "../../test/support/deadline.ts";
import { freePort, NatsServer } from "../../test/support/nats-server.ts";
import { hearing, ignoreNotices } from "../../test/support/notices.ts";
import { needs } from "../../test/support/programs.ts";
import type { Report } from "../protocol/notices.ts";
import { NatsLink } from "./link.ts";
import type { Passenger } from "./move.ts";

const { test } = needs("nats-server");

/** A server in lame-duck mode is left at once, long before it closes its connections. */
setDefaultTimeout(60_000);

const OPTIONS = { user: null, password: null, token: null, credsFile: null, tls: null };
const LAME_DUCK = 'lame_duck_grace_period: "60s"\nlame_duck_duration: "120s"\n';

/** Two servers of one cluster, a link, and which of them it is on. */
class Stage implements AsyncDisposable {
  readonly told: string[] = [];
  readonly link: NatsLink;
  readonly from: NatsServer;
  readonly to: NatsServer;

  private constructor(told: string[], { link, from, to }: { link: NatsLink; from: NatsServer; to: NatsServer }) {
    this.told = told;
    this.link = link;
    this.from = from;
    this.to = to;
  }

  static async start(): Promise<Stage> {
    const ports = await Promise.all([0, 1].map(freePort));
    const routes = ports.map((port) => `nats-route://127.0.0.1:${port}`).join(", ");
    const configOf = (port: number | undefined, index: number) =>
      `${LAME_DUCK}server_name: s${index}\ncluster { name: c, listen: "127.0.0.1:${port}", no_advertise: true, routes: [${routes}] }`;
    const first = await NatsServer.start({ config: configOf(ports[0], 0) });
    const second = await NatsServer.start({ config: configOf(ports[1], 1) });
    const told: string[] = [];
    const link = NatsLink.start({ ...OPTIONS, servers: [first.url, second.url] }, tellingOf(told));
    await until(() => link.isUp, "the link");
    const isFirst = portOf(link) === first.port;
    return new Stage(told, { link, from: isFirst ? first : second, to: isFirst ? second : first });
  }

  /** The server says that it will end, and keeps its connections for a minute. */
  duck(): void {
    process.kill(this.from.pid, "SIGUSR2");
  }

  async moved(): Promise<void> {
    await until(() => this.link.isUp && portOf(this.link) === this.to.port && this.told.length > 1, "the other server");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.link.stop();
    await this.from[Symbol.asyncDispose]();
    await this.to[Symbol.asyncDispose]();
  }
}

function portOf({ connection }: NatsLink): number {
  return Number(connection?.getServer().split(":").at(-1));
}

/** Writes down what a link tells of its connection. */
function tellingOf(told: string[]): Report {
  return hearing({
    "nats-up": () => void told.push("up"),
    "nats-down": ({ cause }) => void told.push(cause),
    "nats-refused": () => {},
  });
}

/** Takes part in moves and writes down what it is told. */
class Recorder implements Passenger {
  readonly calls: string[] = [];
  readonly opened = Promise.withResolvers<void>();
  onOpen: () => Promise<void> = async () => {};

  async open(): Promise<void> {
    this.calls.push("open");
    await this.onOpen();
    this.opened.resolve();
  }
  leave(): void {
    this.calls.push("leave");
  }
  moved(): void {
    this.calls.push("moved");
  }
  abandoned(): void {
    this.calls.push("abandoned");
  }
}

test("a server in lame-duck mode is left for another one at once, and the link is up all the time", async () => {
  await using stage = await Stage.start();
  const recorder = new Recorder();
  const changes: boolean[] = [];
  stage.link.onMove(recorder);
  stage.link.onChange((isUp) => void changes.push(isUp));
  stage.duck();
  await stage.moved();
  expect(recorder.calls).toEqual(["open", "leave", "moved"]);
  expect(stage.told).toEqual(["up", "up"]);
  expect(changes).toEqual([true]);
  // It would have kept the connection for a minute.
  expect(() => process.kill(stage.from.pid, 0)).not.toThrow();
});

test("what is published goes out in its order, before, during and after the move", async () => {
  await using stage = await Stage.start();
  const other = NatsLink.start({ ...OPTIONS, servers: [stage.to.url] }, ignoreNotices);
  await until(() => other.isUp, "the other link");
  const got: number[] = [];
  let isHeard = false;
  const take = (text: string) => {
    if (text === "anybody?") isHeard = true;
    else got.push(Number(text));
  };
  other.connection?.subscribe("numbers", { callback: (_error, message) => take(message.string()) });
  // Until one server has told the other, it drops what nobody there has subscribed to.
  await until(() => {
    stage.link.publish("numbers", "anybody?");
    return isHeard;
  }, "the first server to know of the subscription");
  let count = 0;
  const timer = setInterval(() => {
    for (let more = 0; more < 20; more++) stage.link.publish("numbers", `${count++}`);
  }, 1);
  stage.duck();
  await stage.moved();
  clearInterval(timer);
  await until(() => got.length === count, "all numbers");
  expect(got).toEqual(Array.from({ length: count }, (_, number) => number));
  await other.stop();
});

test("a server that ends while the move is under way is left at once, and the link stays up", async () => {
  await using stage = await Stage.start();
  const probed = Promise.withResolvers<void>();
  // What tells that both connections can be used: see `Move`.
  stage.link.connection?.subscribe("_INBOX.>", { callback: () => probed.resolve() });
  stage.duck();
  await within(probed.promise, "the second connection");
  await stage.from.stop("SIGKILL");
  await stage.moved();
  expect(stage.told).toEqual(["up", "up"]);
});

test("a server is kept while no other can be reached, and left when one is there", async () => {
  await using stage = await Stage.start();
  const recorder = new Recorder();
  stage.link.onMove(recorder);
  await stage.to.stop();
  stage.duck();
  await until(() => stage.link.connection?.info?.ldm === true, "the server's word");
  await stage.link.connection?.flush();
  expect(stage.told).toEqual(["up"]);
  await stage.to.restart();
  await stage.moved();
  expect(stage.told).toEqual(["up", "up"]);
  expect(recorder.calls).toEqual(["open", "leave", "moved"]);
});

test("a move whose second connection is lost is abandoned and tried again", async () => {
  await using stage = await Stage.start();
  const recorder = new Recorder();
  recorder.onOpen = async () => {
    recorder.onOpen = async () => {};
    await stage.to.stop("SIGKILL");
  };
  stage.link.onMove(recorder);
  stage.duck();
  await until(() => recorder.calls.includes("abandoned"), "the end of the first try");
  await stage.to.restart();
  await stage.moved();
  expect(recorder.calls).toEqual(["open", "abandoned", "open", "leave", "moved"]);
  expect(stage.told).toEqual(["up", "up"]);
});

test("a server that is the only one is kept for as long as it is there", async () => {
  await using server = await NatsServer.start({ config: LAME_DUCK });
  const told: string[] = [];
  const link = NatsLink.start({ ...OPTIONS, servers: [server.url] }, tellingOf(told));
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
