import { randomUUID } from "node:crypto";
import type { Script } from "./raw-backend.ts";
import type { RawAnswer, RawWebSocket } from "./raw-websocket.ts";
import { RestClient, type RestRequest } from "./rest-client.ts";
import { type Action, type Names, target } from "./rest-operations.ts";
import { connectionIdOf, jsonError, Stack, type StackOptions } from "./stack.ts";

/** A client that is connected, and the id that the backend was told. */
export interface Member {
  readonly client: RawWebSocket;
  readonly connectionId: string;
}

export interface MemberOptions {
  /** As written in the client's URL; `_default` connects without a hub. Default: `chat`. */
  readonly hub?: string;
  readonly user?: string;
  /** Groups given by the connect answer. Names without a comma only. */
  readonly groups?: readonly string[];
}

/** A message as a client got it, its bytes as Latin-1 so that they compare and print well. */
export interface Got {
  readonly type: "text" | "binary";
  readonly bytes: string;
}

/** The expected form of a message whose payload is given as text (UTF-8) or as bytes. */
export function got(type: "text" | "binary", payload: string | Uint8Array): Got {
  return { type, bytes: Buffer.from(payload).toString("latin1") };
}

/** Takes user and groups from the client's query: `?user=…&group=…`. */
const acceptByQuery: Script = (exchange) => {
  const query = new URLSearchParams(exchange.request.header("X-ASRS-Client-Query") ?? "");
  const groups = query.getAll("group").map((group) => `X-ASRS-Connection-Group: ${group}`);
  exchange.reply(200, [`X-ASRS-User-Id: ${query.get("user") ?? "somebody"}`, ...groups]);
};

/** A gateway with a backend that lets everybody in, its clients, and callers of its API. */
export class RestStage {
  readonly stack: Stack;
  readonly #callers: RestClient[] = [];
  #default: RestClient | undefined;

  private constructor(stack: Stack) {
    this.stack = stack;
  }

  static async start(options: StackOptions = {}): Promise<RestStage> {
    const stack = await Stack.start(options);
    stack.backend.onConnect = acceptByQuery;
    return new RestStage(stack);
  }

  get port(): number {
    return this.stack.port;
  }

  /** Where the REST API is; the same port unless `listen.api` gives it one of its own. */
  get apiPort(): number {
    return this.stack.gateway.apiPort;
  }

  /** Connects a client; its connect event is taken from the backend. */
  async member(options: MemberOptions = {}): Promise<Member> {
    const mark = randomUUID();
    const hub = options.hub ?? "chat";
    const query = new URLSearchParams({ user: options.user ?? "somebody", mark });
    for (const group of options.groups ?? []) query.append("group", group);
    const path = hub === "_default" ? "/ws/client" : `/ws/client/hubs/${hub}`;
    const client = await this.stack.open({ path: `${path}?${query}` });
    const connect = await this.stack.backend.next("connect", (request) =>
      (request.header("X-ASRS-Client-Query") ?? "").includes(mark),
    );
    return { client, connectionId: connectionIdOf(connect) };
  }

  /** A caller of the REST API with a connection of its own. */
  async caller(): Promise<RestClient> {
    const caller = await RestClient.dial(this.apiPort);
    this.#callers.push(caller);
    return caller;
  }

  /** Calls over the stage's one keep-alive connection. */
  async call(request: RestRequest): Promise<RawAnswer> {
    this.#default ??= await this.caller();
    return await this.#default.call(request);
  }

  /** Sends a text by the plain 2020 form and expects 202. */
  async send(action: Action, hub: string, names: Names, body: string, query = ""): Promise<void> {
    const request = { method: "POST", target: target(action, hub, names, query), type: "text/plain", body };
    expectDone(await this.call(request), 202);
  }

  /** Calls an operation without a body by the plain 2020 form; returns the status, its form checked. */
  async ask(method: string, action: Action, hub: string, names: Names, query = ""): Promise<number> {
    const answer = await this.call({ method, target: target(action, hub, names, query) });
    if (answer.status >= 400) expectError(answer, answer.status, method);
    else expectDone(answer, answer.status);
    return answer.status;
  }

  /**
   * What each member has got by now: all that came before a message which is sent to each on the same caller's
   * connection. Nothing in the list means that nothing came.
   */
  async received(hub: string, ...members: readonly Member[]): Promise<Got[][]> {
    const mark = `mark ${randomUUID()}`;
    for (const { connectionId } of members) {
      await this.send("send to connection", hub, { connection: connectionId }, mark);
    }
    return await Promise.all(members.map(({ client }) => readUpTo(client, mark)));
  }

  /** Waits until the condition holds, asking again and again; the test's own deadline ends it. */
  async until(condition: () => Promise<boolean>): Promise<void> {
    while (!(await condition())) await Bun.sleep(20);
  }

  async stop(): Promise<void> {
    for (const caller of this.#callers) caller.destroy();
    await this.stack.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

async function readUpTo(client: RawWebSocket, mark: string): Promise<Got[]> {
  const messages: Got[] = [];
  for (;;) {
    const { type, payload } = await client.nextMessage();
    if (type === "text" && payload.toString("utf8") === mark) return messages;
    messages.push(got(type, payload));
  }
}

/** Checks an answer that is no error: its status, and that it has no body. */
export function expectDone(answer: RawAnswer, status: number): void {
  if (answer.status !== status) {
    throw new Error(`expected ${status}, got ${answer.head.firstLine}: ${answer.body.toString("utf8")}`);
  }
  if (answer.body.length > 0) throw new Error(`a body where none is due: ${answer.body.toString("utf8")}`);
}

/** Checks an error: its status, and the JSON form unless it answers HEAD, which has no body. */
export function expectError(answer: RawAnswer, status: number, method = "GET"): void {
  if (answer.status !== status) {
    throw new Error(`expected ${status}, got ${answer.head.firstLine}: ${answer.body.toString("utf8")}`);
  }
  if (method === "HEAD") return;
  const type = answer.head.all("content-type").join();
  if (!/^application\/json\b/i.test(type)) throw new Error(`an error of type ${JSON.stringify(type)}`);
  jsonError(answer.body);
}
