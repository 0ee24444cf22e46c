import { z } from "zod";
import { natsServerFault } from "./addresses.ts";
import { optionDocs, refusing } from "./option-docs.ts";

const SUBJECT_PREFIX = /^[A-Za-z0-9_-]{1,64}$/;
/** JetStream keeps no stream more often than this. */
const MAX_REPLICAS = 5;
/** Enough to lose one server without losing data; more replicas only cost. */
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
    doc: "PEM file of the CA certificates that verify the servers, instead of the system's. null: the system's.",
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
      doc: "Servers of one NATS cluster with JetStream: `host`, `host:port`, `nats://…` or `tls://…`; the default port is 4222. One reachable server is enough. `tls://` for one of them demands TLS from all.",
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
    doc: "TLS for the connections to NATS; `{}` uses the system's CA certificates. null: TLS is used if a server offers it, and required for `tls://`.",
  }),
  subjectPrefix: text().superRefine(refusing(subjectPrefixFault)).default("hubwire").register(optionDocs, {
    unit: "",
    doc: "First part of the names of all subjects, streams and buckets. Clusters that share a NATS account need different prefixes.",
  }),
  replicas: z
    .int()
    .min(1)
    .max(MAX_REPLICAS)
    .nullable()
    .default(null)
    .register(optionDocs, {
      unit: "count",
      doc: `Number of servers that keep each stream and bucket. null: ${USUAL_REPLICAS}, or the number of listed servers if that is smaller.`,
    }),
});

/** The schema of `cluster`; null means a gateway of its own. */
export const clusterSchema = z.strictObject({
  nats: natsSchema.register(optionDocs, {
    unit: "",
    doc: "The NATS servers that connect the nodes of the cluster.",
  }),
  journalCopy: z.enum(JOURNAL_COPIES).default("wait").register(optionDocs, {
    unit: "",
    doc: "What a connect waits for. `wait`: until NATS has the journal's entry too, so that the disconnect event is sent even if the node is lost for good at that moment. `behind`: until this node's disk has it; the replica in NATS follows within about 20 ms. While NATS is unreachable, `wait` accepts clients without a copy and logs an error.",
  }),
});

/** How many servers keep each stream and bucket. */
export function countReplicas(nats: { readonly servers: readonly string[]; readonly replicas: number | null }): number {
  return nats.replicas ?? Math.min(USUAL_REPLICAS, nats.servers.length);
}
