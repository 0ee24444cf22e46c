import { RestApi } from "../../src/api/rest-api.ts";
import type { AccessKeys } from "../../src/auth/access-keys.ts";
import { RestTokens } from "../../src/auth/rest-token.ts";
import { MemoryBroker } from "../../src/broker/memory.ts";
import { Deliver } from "../../src/core/deliver.ts";
import { GroupRules } from "../../src/core/group-rules.ts";
import type { Broker, Verdict, VerdictScope } from "../../src/core/ports/broker.ts";
import type { GroupRule, RuleKey, RuleWrite } from "../../src/core/rule-store.ts";
import type { Frame } from "../../src/protocol/client-protocol.ts";
import type { Envelope, Question, Target } from "../../src/protocol/envelope.ts";
import { CoreStage, RecordingSocket, type StageOptions } from "./core-stage.ts";
import { MemoryRuleStore } from "./memory-rule-store.ts";
import { secondsFromNow, signToken } from "./tokens.ts";

/** A publication to a topic, in the order in which the fan-out got it. */
export interface Publication {
  readonly topic: string;
  readonly frame: Frame;
}

/** The fan-out over recording sockets: each one that is subscribed gets the frame, as it would from Bun. */
export class RecordingFanout {
  readonly published: Publication[] = [];
  readonly #core: CoreStage;

  constructor(core: CoreStage) {
    this.#core = core;
  }

  publish(topic: string, frame: Frame): void {
    this.published.push({ topic, frame });
    for (const { socket } of this.#core.registry.all()) {
      if (socket instanceof RecordingSocket && socket.topics.has(topic)) socket.send(frame);
    }
  }
}

/** A broker that writes down what goes through it, and fails where the test says so. */
export class RecordingBroker implements Broker {
  readonly envelopes: Envelope[] = [];
  readonly questions: { question: Question; scope: VerdictScope }[] = [];
  failure: Error | "unavailable" | null = null;
  readonly #inner: Broker;

  constructor(inner: Broker) {
    this.#inner = inner;
  }

  async publish(envelope: Envelope): Promise<"sent" | "unavailable"> {
    this.envelopes.push(envelope);
    if (this.failure instanceof Error) throw this.failure;
    return this.failure ?? (await this.#inner.publish(envelope));
  }

  async ask(question: Question, scope: VerdictScope): Promise<Verdict | "unavailable"> {
    this.questions.push({ question, scope });
    if (this.failure instanceof Error) throw this.failure;
    return this.failure ?? (await this.#inner.ask(question, scope));
  }

  join(target: Target): Promise<void> {
    return this.#inner.join(target);
  }

  leave(target: Target): void {
    this.#inner.leave(target);
  }

  /** How often anything came. */
  get useCount(): number {
    return this.envelopes.length + this.questions.length;
  }
}

/** A rule store that rejects, or is out of reach, where the test says so. */
export class FailingRuleStore extends MemoryRuleStore {
  failure: Error | "unavailable" | null = null;

  override async put(rule: GroupRule): Promise<RuleWrite> {
    if (this.failure instanceof Error) throw this.failure;
    return this.failure === null ? await super.put(rule) : { kind: this.failure };
  }

  override async remove(keys: readonly RuleKey[]): Promise<RuleWrite> {
    if (this.failure instanceof Error) throw this.failure;
    return this.failure === null ? await super.remove(keys) : { kind: this.failure };
  }
}

/** One call of the API; what is left out is what a well-behaved backend would send. */
export interface ApiCall {
  readonly method: string;
  /** Path and query, as they are. */
  readonly target: string;
  readonly type?: string;
  readonly body?: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>;
  /** Left out: a good token for this target. Null: none. */
  readonly token?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer of the API, read to its end. */
export interface ApiAnswer {
  readonly status: number;
  /** The code of an error's JSON; `none` for an empty body. */
  readonly code: string;
  readonly target: string;
  readonly headers: Headers;
  readonly body: string;
}

const API_HOST = "gw.example";
const API_KEY = "access-key-of-the-stage";

/** The REST API over the core, between recording sockets and a broker that writes everything down. */
export class ApiStage {
  readonly core: CoreStage;
  readonly fanout: RecordingFanout;
  readonly broker: RecordingBroker;
  readonly store = new FailingRuleStore();
  readonly rules: GroupRules;
  readonly api: RestApi;
  keys: AccessKeys = { primary: API_KEY, secondary: null };
  /** `held` and `restored`, as the API takes the server's timeout off and puts it back. */
  readonly timeouts: string[] = [];

  constructor({ maxMessageBytes = 1000, ...options }: Partial<StageOptions> & { maxMessageBytes?: number } = {}) {
    this.core = new CoreStage(options);
    const { protocols, registry, arrivals, membership, pressure, lifecycle, clock, report } = this.core;
    this.fanout = new RecordingFanout(this.core);
    const deliver = new Deliver({
      protocols,
      registry,
      arrivals,
      membership,
      pressure,
      fanout: this.fanout,
      close: (connection, cause) => lifecycle.close(connection, cause),
      rulesReached: (revision) => this.rules.reached(revision),
    });
    this.broker = new RecordingBroker(new MemoryBroker(deliver));
    this.rules = new GroupRules({
      store: this.store,
      clock,
      report,
      onBegun: (hub, name, group) => deliver.begin({ kind: "user", hub, name }, group),
      onExpired: (hub, name, group) => {
        deliver.leave({ target: { kind: "user", hub, name }, group });
      },
    });
    void this.rules.load();
    this.core.rulesOf = (hub, userId) => this.rules.groupsOf(hub, userId);
    this.api = new RestApi(
      { publicHosts: [API_HOST], accessKeys: () => this.keys, maxMessageBytes },
      { broker: this.broker, rules: this.rules, tokens: new RestTokens(), pressure, clock, report },
    );
  }

  /** A good token for a target. */
  token(target: string): string {
    return signToken({ aud: `http://${API_HOST}${target}`, exp: secondsFromNow(3600) }, { key: this.keys.primary });
  }

  /** Hands a request to the API as the listener does; null if the path is not a path of the API. */
  begin(call: ApiCall): Promise<Response> | null {
    const { method, target, type, body, token = this.token(target) } = call;
    const headers = new Headers({ Host: API_HOST, ...call.headers });
    if (type !== undefined) headers.set("Content-Type", type);
    if (token !== null) headers.set("Authorization", `Bearer ${token}`);
    const request = new Request(`http://${API_HOST}${target}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body }),
    });
    // `Request` makes a type of its own for a text.
    if (type === undefined) request.headers.delete("Content-Type");
    const [path = "", query = ""] = target.split("?");
    const holdOpen = () => {
      this.timeouts.push("held");
      return () => void this.timeouts.push("restored");
    };
    return this.api.handle({ request, path, query, holdOpen });
  }

  async call(call: ApiCall): Promise<ApiAnswer> {
    const response = await this.begin(call);
    if (response === null) throw new Error(`${call.target} is not a path of the API`);
    return await readAnswer(response);
  }

  /** Sends a text and expects 202. */
  async send(target: string, body: string): Promise<void> {
    const { status } = await this.call({ method: "POST", target, type: "text/plain", body });
    if (status !== 202) throw new Error(`expected 202 from ${target}, got ${status}`);
  }

  /** The status of a call without a body. */
  async ask(method: string, target: string): Promise<number> {
    return (await this.call({ method, target })).status;
  }

  stop(): void {
    this.rules.stop();
    this.core.stop();
  }
}

/** Reads an answer of the API to its end; an error's body must be of the one form. */
export async function readAnswer(response: Response): Promise<ApiAnswer> {
  const body = await response.text();
  const { status, headers } = response;
  if (body === "") return { status, headers, body, code: "none", target: "" };
  const { code, message, target, ...rest } = JSON.parse(body) as Record<string, unknown>;
  const texts = [code, message, target];
  if (texts.some((text) => typeof text !== "string" || text === "") || Object.keys(rest).length > 0) {
    throw new Error(`no error of the API's form: ${body}`);
  }
  return { status, headers, body, code: String(code), target: String(target) };
}
