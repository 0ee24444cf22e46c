import { z } from "zod";
import { HOP_BY_HOP_HEADERS } from "../protocol/headers.ts";
import { absoluteUrlFault, isHeaderName, urlTemplateFault } from "./addresses.ts";
import { optionDocs, refusing } from "./option-docs.ts";
import { choicePatternSchema, hubPatternSchema } from "./patterns.ts";

/** Headers that every call carries anyway, or that would change how the call is framed. Lower case. */
const OWN_HEADERS: ReadonlySet<string> = new Set(["host", "date", "x-forwarded-for", "accept-encoding", "expect"]);
const OWN_PREFIXES = ["content-", "x-asrs-", "x-hubwire-", "sec-websocket-"];

function headerNameFault(name: string): string | null {
  if (!isHeaderName(name)) return "is no header name";
  const lower = name.toLowerCase();
  if (OWN_HEADERS.has(lower) || HOP_BY_HOP_HEADERS.has(lower) || OWN_PREFIXES.some((own) => lower.startsWith(own))) {
    return "is a header that hubwire sets itself, or that concerns one hop only";
  }
  return null;
}

function headersFault(headers: Readonly<Record<string, string>>): string | null {
  const names = Object.keys(headers).map((name) => name.toLowerCase());
  return new Set(names).size < names.length ? "two names are equal but for their case" : null;
}

function headerValueFault(value: string): string | null {
  return /[\u0000-\u0008\u000a-\u001f\u007f]/.test(value) ? "must not hold CR, LF or other control characters" : null;
}

const text = () => z.string().min(1);
const file = () => text().nullable().default(null);

const staticHeaders = z
  .record(z.string().superRefine(refusing(headerNameFault)), z.string().superRefine(refusing(headerValueFault)))
  .superRefine(refusing(headersFault))
  .register(optionDocs, {
    unit: "",
    doc: "With type headers: sent with every call. None of Host, Date, Expect, X-Forwarded-For, Accept-Encoding, `Content-*`, `Sec-WebSocket-*`, `X-ASRS-*`, `X-Hubwire-*`, or the headers of one hop.",
  });

const authSchema = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("none").register(optionDocs, { unit: "", doc: "none, headers, oauth2 or managedIdentity." }),
  }),
  z.strictObject({ type: z.literal("headers"), headers: staticHeaders }),
  z.strictObject({
    type: z.literal("oauth2"),
    tokenUrl: text()
      .superRefine(refusing((url) => absoluteUrlFault(url, ["http", "https"])))
      .register(optionDocs, { unit: "URL", doc: "With type oauth2: the token endpoint for client credentials." }),
    clientId: text().register(optionDocs, { unit: "", doc: "With type oauth2." }),
    clientSecret: text().register(optionDocs, { unit: "", doc: "With type oauth2. A secret: never logged." }),
    scope: text().nullable().default(null).register(optionDocs, {
      unit: "",
      doc: "With type oauth2: scopes, separated by spaces; null asks for none.",
    }),
  }),
  z.strictObject({
    type: z.literal("managedIdentity"),
    resource: text().register(optionDocs, {
      unit: "",
      doc: "With type managedIdentity: whom the token is for, as Azure hosts name it.",
    }),
  }),
]);

const breakerSchema = z.strictObject({
  failureRatio: z.number().min(0).max(1).default(0.5).register(optionDocs, {
    unit: "ratio",
    doc: "Share of failed calls within the window at which the breaker opens; 0 turns the breaker off.",
  }),
  minCalls: z.int().min(1).max(1_000_000).default(20).register(optionDocs, {
    unit: "count",
    doc: "Fewer calls than this within the window never open it.",
  }),
  windowMs: z.int().min(100).max(3_600_000).default(10_000).register(optionDocs, {
    unit: "ms",
    doc: "How far back calls count.",
  }),
});

const tlsSchema = z.strictObject({
  caFile: file().register(optionDocs, {
    unit: "path",
    doc: "PEM file of the authorities to trust instead of the system's; null trusts the system's.",
  }),
  certFile: file().register(optionDocs, { unit: "path", doc: "PEM client certificate; needs keyFile." }),
  keyFile: file().register(optionDocs, { unit: "path", doc: "PEM key of certFile." }),
});

/** The schema of one entry of `upstreams`. */
export const upstreamSchema = z.strictObject({
  hubPattern: hubPatternSchema().default("*").register(optionDocs, {
    unit: "pattern",
    doc: "Which hubs: `*`, a name, a comma list or a list; compared without case. Two places that write a hub differently are a fault. A name that holds a comma needs the list.",
  }),
  categoryPattern: choicePatternSchema(["connections", "messages"]).default("*").register(optionDocs, {
    unit: "pattern",
    doc: "Which categories: connections (connect, disconnect), messages (message), or `*`.",
  }),
  eventPattern: choicePatternSchema(["connect", "message", "disconnect"]).default("*").register(optionDocs, {
    unit: "pattern",
    doc: "Which events: connect, message, disconnect, or `*`.",
  }),
  urlTemplate: text().superRefine(refusing(urlTemplateFault)).register(optionDocs, {
    unit: "URL",
    doc: "Where to POST. `{hub}`, `{category}` and `{event}` are filled in, URL-escaped, in path and query. Its query is kept.",
  }),
  dialect: z.literal("asrs").default("asrs").register(optionDocs, {
    unit: "",
    doc: "How events are written; cloudevents comes with a later version.",
  }),
  connectEventName: z.enum(["handshake", "connect"]).default("handshake").register(optionDocs, {
    unit: "",
    doc: "What X-ASRS-Event says for connect; some backends compare it with `connect`. `{event}` is connect either way.",
  }),
  timeoutMs: z.int().min(1).max(3_600_000).default(30_000).register(optionDocs, {
    unit: "ms",
    doc: "For one call: connecting, headers and body together.",
  }),
  onMessageFailure: z.enum(["close", "ignore"]).default("close").register(optionDocs, {
    unit: "",
    doc: "What happens when a message got no answer: close ends the connection with 1011, ignore drops the message.",
  }),
  repeatOnStaleSocket: z.boolean().default(true).register(optionDocs, {
    unit: "",
    doc: "Send a message once more, over a fresh socket, when a kept one died without a byte of answer. The backend may then act on it twice; both requests have the same X-Hubwire-Event-Id. false: such a message counts as not answered.",
  }),
  keepAliveMs: z.int().min(0).max(3_600_000).default(4000).register(optionDocs, {
    unit: "ms",
    doc: "How long an idle socket to the backend is kept for the next call; less where the backend says so by `Keep-Alive: timeout=`. Keep it below the backend's own idle time. 0 closes after each call, with `Connection: close`.",
  }),
  maxIdleSockets: z.int().min(0).max(1_000_000).nullable().default(null).register(optionDocs, {
    unit: "count",
    doc: "Idle sockets that are kept at most; a socket beyond that is closed after its call. null: maxConcurrency.",
  }),
  maxConcurrency: z.int().min(1).max(1_000_000).default(1024).register(optionDocs, {
    unit: "count",
    doc: "Calls of this entry at the same time. Each holds a socket to the backend, and as many more may wait for late answers to connect. Lowered where the process's file limit does not allow it.",
  }),
  maxConcurrencyPerAddress: z.int().min(1).max(1_000_000).nullable().default(null).register(optionDocs, {
    unit: "count",
    doc: "Calls of this entry at the same time for clients of one address; an IPv6 address counts with its whole /64. Further calls of that address wait up to maxWaitMs. null: three quarters of maxConcurrency. Set it to maxConcurrency where all clients come from one address.",
  }),
  maxWaitMs: z.int().min(0).max(3_600_000).default(5000).register(optionDocs, {
    unit: "ms",
    doc: "How long a call waits for a free place, then it is refused; 0 refuses at once.",
  }),
  breaker: breakerSchema.prefault({}).register(optionDocs, {
    unit: "",
    doc: "Stops calling a backend that fails, so that it can recover; once a second one event tries whether it is back.",
  }),
  auth: authSchema.default({ type: "none" }).register(optionDocs, {
    unit: "",
    doc: "How calls prove who sends them, beside the signature.",
  }),
  tls: tlsSchema
    .prefault({})
    .register(optionDocs, { unit: "", doc: "For https templates: private authority and client certificate." }),
});
