import { z } from "zod";
import { DIALECT_NAMES, FIRST_DIALECT } from "../protocol/dialect-names.ts";
import { EVENT_CATEGORIES, EVENT_NAMES } from "../protocol/events.ts";
import { HOP_BY_HOP_HEADERS } from "../protocol/headers.ts";
import { absoluteUrlFault, isHeaderName, urlTemplateFault } from "./addresses.ts";
import { forwardedNameFault, repeatedNames } from "./forwarded-names.ts";
import { optionDocs, refusing } from "./option-docs.ts";
import { choicePatternSchema, hubPatternSchema } from "./patterns.ts";

/** Headers that every call carries anyway, or that would change how the call is framed. Lower case. */
const OWN_HEADERS: ReadonlySet<string> = new Set(["host", "date", "x-forwarded-for", "accept-encoding", "expect"]);
const OWN_PREFIXES = ["content-", "x-asrs-", "x-hubwire-", "sec-websocket-"];

function headerNameFault(name: string): string | null {
  if (!isHeaderName(name)) return "is not a valid header name";
  const lower = name.toLowerCase();
  if (OWN_HEADERS.has(lower) || HOP_BY_HOP_HEADERS.has(lower) || OWN_PREFIXES.some((own) => lower.startsWith(own))) {
    return "is a header that hubwire sets, or a hop-by-hop header: remove it";
  }
  return null;
}

function headersFault(headers: Readonly<Record<string, string>>): string | null {
  const names = Object.keys(headers).map((name) => name.toLowerCase());
  return new Set(names).size < names.length ? "has two names that differ only in case: keep one" : null;
}

function headerValueFault(value: string): string | null {
  return /[\u0000-\u0008\u000a-\u001f\u007f]/.test(value)
    ? "must not contain CR, LF or other control characters"
    : null;
}

const text = () => z.string().min(1);
const file = () => text().nullable().default(null);

const staticHeaders = z
  .record(z.string().superRefine(refusing(headerNameFault)), z.string().superRefine(refusing(headerValueFault)))
  .superRefine(refusing(headersFault))
  .register(optionDocs, {
    unit: "",
    doc: "With type headers: headers for every call. Not allowed: Host, Date, Expect, X-Forwarded-For, Accept-Encoding, `Content-*`, `Sec-WebSocket-*`, `X-ASRS-*`, `X-Hubwire-*` and hop-by-hop headers.",
  });

/** A list of headers that pass through hubwire. Each fault is at its item. */
const passedHeaders = () =>
  z
    .array(z.string().superRefine(refusing(forwardedNameFault)))
    .superRefine((names, context) => {
      for (const index of repeatedNames(names)) {
        const message = "is given twice: the names of headers are case-insensitive";
        context.addIssue({ code: "custom", path: [index], message });
      }
    })
    .default([]);

const authSchema = z.discriminatedUnion("type", [
  z.strictObject({
    type: z
      .literal("none")
      .register(optionDocs, { unit: "", doc: "How calls authenticate: none, headers, oauth2 or managedIdentity." }),
  }),
  z.strictObject({ type: z.literal("headers"), headers: staticHeaders }),
  z.strictObject({
    type: z.literal("oauth2"),
    tokenUrl: text()
      .superRefine(refusing((url) => absoluteUrlFault(url, ["http", "https"])))
      .register(optionDocs, { unit: "URL", doc: "With type oauth2: the token endpoint for client credentials." }),
    clientId: text().register(optionDocs, { unit: "", doc: "With type oauth2: the client id at the token endpoint." }),
    clientSecret: text().register(optionDocs, {
      unit: "",
      doc: "With type oauth2: the client secret. A secret: never logged.",
    }),
    scope: text().nullable().default(null).register(optionDocs, {
      unit: "",
      doc: "With type oauth2: requested scopes, separated by spaces. null: no scope is requested.",
    }),
  }),
  z.strictObject({
    type: z.literal("managedIdentity"),
    resource: text().register(optionDocs, {
      unit: "",
      doc: "With type managedIdentity: the resource that the token is for, as Azure names it.",
    }),
  }),
]);

const breakerSchema = z.strictObject({
  failureRatio: z.number().min(0).max(1).default(0.5).register(optionDocs, {
    unit: "ratio",
    doc: "Share of failed calls within windowMs at which the breaker opens. 0 turns the breaker off.",
  }),
  minCalls: z.int().min(1).max(1_000_000).default(20).register(optionDocs, {
    unit: "count",
    doc: "Minimum number of calls within windowMs before the breaker can open.",
  }),
  windowMs: z.int().min(100).max(3_600_000).default(10_000).register(optionDocs, {
    unit: "ms",
    doc: "Length of the window in which calls are counted.",
  }),
});

const tlsSchema = z.strictObject({
  caFile: file().register(optionDocs, {
    unit: "path",
    doc: "PEM file of the CA certificates that verify the server, instead of the system's. null: the system's.",
  }),
  certFile: file().register(optionDocs, { unit: "path", doc: "PEM client certificate; needs keyFile." }),
  keyFile: file().register(optionDocs, { unit: "path", doc: "PEM key of certFile." }),
});

/** The schema of one entry of `upstreams`. */
export const upstreamSchema = z.strictObject({
  hubPattern: hubPatternSchema().default("*").register(optionDocs, {
    unit: "pattern",
    doc: "Which hubs: `*`, a name, a comma-separated list or a YAML list; case-insensitive. All places must spell a hub alike. A name that contains a comma needs the YAML list.",
  }),
  categoryPattern: choicePatternSchema(EVENT_CATEGORIES).default("*").register(optionDocs, {
    unit: "pattern",
    doc: "Which categories: connections (connect, disconnect), messages (message), or `*`.",
  }),
  eventPattern: choicePatternSchema(EVENT_NAMES).default("*").register(optionDocs, {
    unit: "pattern",
    doc: "Which events: connect, message, disconnect, or `*`.",
  }),
  urlTemplate: text().superRefine(refusing(urlTemplateFault)).register(optionDocs, {
    unit: "URL",
    doc: "URL for the POST. `{hub}`, `{category}` and `{event}` in path and query are replaced, percent-encoded. The template's own query is kept.",
  }),
  dialect: z.enum(DIALECT_NAMES).default(FIRST_DIALECT).register(optionDocs, {
    unit: "",
    doc: "How events are written; cloudevents comes with a later version.",
  }),
  connectEventName: z.enum(["handshake", "connect"]).default("handshake").register(optionDocs, {
    unit: "",
    doc: "Value of X-ASRS-Event for the connect event; some backends expect `connect`. `{event}` in the URL is connect in both cases.",
  }),
  timeoutMs: z.int().min(1).max(3_600_000).default(30_000).register(optionDocs, {
    unit: "ms",
    doc: "Time limit for one call: connecting, sending the request and reading the whole answer.",
  }),
  onMessageFailure: z.enum(["close", "ignore"]).default("close").register(optionDocs, {
    unit: "",
    doc: "What happens when a message has no answer. close: the connection is closed with 1011. ignore: the message is dropped.",
  }),
  repeatOnStaleSocket: z.boolean().default(true).register(optionDocs, {
    unit: "",
    doc: "Whether a message is sent again, over a new socket, when a kept socket closed before a byte of the answer. The backend may then act on it twice; both requests have the same X-Hubwire-Event-Id. false: such a message counts as not answered.",
  }),
  keepAliveMs: z.int().min(0).max(3_600_000).default(4000).register(optionDocs, {
    unit: "ms",
    doc: "How long an idle socket to the backend is kept; less if the backend announces less in `Keep-Alive: timeout=`. Set it below the backend's own idle timeout. 0 closes the socket after each call, with `Connection: close`.",
  }),
  maxIdleSockets: z.int().min(0).max(1_000_000).nullable().default(null).register(optionDocs, {
    unit: "count",
    doc: "Maximum number of idle sockets; further sockets are closed after their call. null: maxConcurrency.",
  }),
  maxConcurrency: z.int().min(1).max(1_000_000).default(1024).register(optionDocs, {
    unit: "count",
    doc: "Maximum number of calls of this entry at one time. Each holds a socket to the backend, and as many more may wait for late answers to connect. Lowered if the process's file limit does not allow it.",
  }),
  maxConcurrencyPerAddress: z.int().min(1).max(1_000_000).nullable().default(null).register(optionDocs, {
    unit: "count",
    doc: "The same limit for clients of one address, or one /64 of IPv6 addresses. Further calls of that address wait up to maxWaitMs. null: three quarters of maxConcurrency. Set it to maxConcurrency if all clients share one address.",
  }),
  maxWaitMs: z.int().min(0).max(3_600_000).default(5000).register(optionDocs, {
    unit: "ms",
    doc: "How long a call waits for a free place before it is refused. 0 refuses it at once.",
  }),
  breaker: breakerSchema.prefault({}).register(optionDocs, {
    unit: "",
    doc: "Circuit breaker: stops calls to a failing backend, so that it can recover. Once a second, one event checks whether it is back.",
  }),
  auth: authSchema.default({ type: "none" }).register(optionDocs, {
    unit: "",
    doc: "How calls authenticate, in addition to the signature.",
  }),
  forwardHeaders: passedHeaders().register(optionDocs, {
    unit: "",
    doc: "Headers of the client's handshake that the connect event repeats under their own names, such as cookie, origin, user-agent. cookie and authorization need allowedOrigins without `*` and `null`. A token of hubwire is never among them.",
  }),
  passResponseHeaders: passedHeaders().register(optionDocs, {
    unit: "",
    doc: "Headers of a 2xx answer to connect that the client gets with its 101, such as set-cookie. At most 16,384 bytes in all; a longer answer is refused with 502.",
  }),
  tls: tlsSchema
    .prefault({})
    .register(optionDocs, { unit: "", doc: "For https templates: a private CA and a client certificate." }),
});
