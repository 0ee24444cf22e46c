import { z } from "zod";
import { natsServerFault } from "./addresses.ts";
import { optionDocs, refusing } from "./option-docs.ts";

const SUBJECT_PREFIX = /^[A-Za-z0-9_-]{1,64}$/;
/** JetStream keeps no stream more often than this. */
const MAX_REPLICAS = 5;
/** What one server's loss costs nothing at; more only costs. */
const USUAL_REPLICAS = 3;

const JOURNAL_COPIES = ["wait", "behind"] as const;

const text = () => z.string().min(1);
const optionalText = () => text().nullable().default(null);

function subjectPrefixFault(prefix: string): string | null {
  return SUBJECT_PREFIX.test(prefix) ? null : "must be 1 to 64 of A-Z a-z 0-9 _ -";
}

const tlsSchema = z.strictObject({
  caFile: optionalText().register(optionDocs, {
    unit: "path",
    doc: "PEM file of the authorities to trust instead of the system's; null trusts the system's.",
  }),
  certFile: optionalText().register(optionDocs, { unit: "path", doc: "PEM client certificate; needs keyFile." }),
  keyFile: optionalText().register(optionDocs, { unit: "path", doc: "PEM key of certFile." }),
});

const natsSchema = z.strictObject({
  servers: z
    .array(z.string().superRefine(refusing(natsServerFault)))
    .min(1)
    .register(optionDocs, {
      unit: "",
      doc: "Servers of one NATS cluster with JetStream: `host`, `host:port`, `nats://…` or `tls://…`; the port is 4222 if left out. One that is reachable is enough. `tls://` at one asks all of them for TLS.",
    }),
  user: optionalText().register(optionDocs, { unit: "", doc: "Name to log in with; needs password." }),
  password: optionalText().register(optionDocs, { unit: "", doc: "Password of user. A secret: never logged." }),
  token: optionalText().register(optionDocs, {
    unit: "",
    doc: "Token to log in with, instead of user and password. A secret: never logged.",
  }),
  credsFile: optionalText().register(optionDocs, {
    unit: "path",
    doc: "File with a JWT and its key (`.creds`) to log in with, instead of user and password.",
  }),
  tls: tlsSchema.nullable().default(null).register(optionDocs, {
    unit: "",
    doc: "TLS towards every server; `{}` does with the system's authorities. null: where a server offers it; from a `tls://` one it is demanded.",
  }),
  subjectPrefix: text().superRefine(refusing(subjectPrefixFault)).default("hubwire").register(optionDocs, {
    unit: "",
    doc: "First part of the names of all subjects, streams and buckets. Clusters that share one NATS account need different ones.",
  }),
  replicas: z
    .int()
    .min(1)
    .max(MAX_REPLICAS)
    .nullable()
    .default(null)
    .register(optionDocs, {
      unit: "count",
      doc: `How many servers keep each stream and bucket. null: ${USUAL_REPLICAS}, or as many as servers are listed where those are fewer.`,
    }),
});

/** The schema of `cluster`; null stands for a gateway of its own. */
export const clusterSchema = z.strictObject({
  nats: natsSchema.register(optionDocs, {
    unit: "",
    doc: "The NATS that the nodes of the cluster reach each other by.",
  }),
  journalCopy: z.enum(JOURNAL_COPIES).default("wait").register(optionDocs, {
    unit: "",
    doc: "When a client is let in. `wait`: when NATS has the journal's entry too, so that its disconnect event is sent though the node is lost for good at that moment. `behind`: when this node's disk has it; the copy in NATS follows within about 20 ms. While NATS is away, `wait` lets clients in without a copy, with an error line.",
  }),
});

/** How many servers keep each stream and bucket. */
export function countReplicas(nats: { readonly servers: readonly string[]; readonly replicas: number | null }): number {
  return nats.replicas ?? Math.min(USUAL_REPLICAS, nats.servers.length);
}
