import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, parseAllDocuments } from "yaml";

/** The folder of what deploys hubwire. */
export const DEPLOY = join(import.meta.dir, "../../deploy");
const KUBERNETES = join(DEPLOY, "kubernetes");

type Labels = Readonly<Record<string, string>>;

/** An object of a manifest, as far as all kinds are alike. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Labels };
  readonly spec?: unknown;
}

export interface ConfigMap extends Manifest {
  readonly data: Readonly<Record<string, string>>;
}

export interface Secret extends Manifest {
  readonly stringData: Readonly<Record<string, string>>;
}

export interface NetworkService extends Manifest {
  readonly spec: {
    readonly clusterIP?: string;
    readonly selector: Labels;
    readonly ports: readonly { readonly port: number; readonly targetPort: string }[];
  };
}

export interface DisruptionBudget extends Manifest {
  readonly spec: { readonly maxUnavailable: number; readonly selector: { readonly matchLabels: Labels } };
}

export interface NetworkPolicy extends Manifest {
  readonly spec: {
    readonly podSelector: { readonly matchLabels: Labels };
    readonly policyTypes: readonly string[];
    readonly ingress: readonly {
      readonly from: readonly { readonly podSelector: { readonly matchLabels: Labels } }[];
      readonly ports: readonly { readonly protocol: string; readonly port: string }[];
    }[];
  };
}

export interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: string };
  readonly tcpSocket?: { readonly port: string };
  readonly periodSeconds: number;
  readonly failureThreshold: number;
}

export interface Variable {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: {
    readonly secretKeyRef?: { readonly name: string; readonly key: string; readonly optional?: boolean };
    readonly fieldRef?: { readonly fieldPath: string };
  };
}

export interface Container {
  readonly image: string;
  readonly env: readonly Variable[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly readinessProbe: Probe;
  readonly startupProbe: Probe;
  readonly livenessProbe: Probe;
  readonly securityContext: unknown;
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
}

export interface StatefulSet extends Manifest {
  readonly spec: {
    readonly serviceName: string;
    readonly replicas: number;
    readonly selector: { readonly matchLabels: Labels };
    readonly template: {
      readonly metadata: { readonly labels: Labels };
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly automountServiceAccountToken: boolean;
        readonly enableServiceLinks: boolean;
        readonly securityContext: unknown;
        readonly containers: readonly [Container];
        readonly volumes: readonly { readonly name: string; readonly configMap?: { readonly name: string } }[];
      };
    };
    readonly volumeClaimTemplates: readonly {
      readonly metadata: { readonly name: string };
      readonly spec: { readonly resources: { readonly requests: { readonly storage: string } } };
    }[];
  };
}

/** The kinds that tests look into. What is read of each holds because the schema's check has passed. */
interface Kinds {
  readonly ConfigMap: ConfigMap;
  readonly Secret: Secret;
  readonly Service: NetworkService;
  readonly PodDisruptionBudget: DisruptionBudget;
  readonly NetworkPolicy: NetworkPolicy;
  readonly StatefulSet: StatefulSet;
}

/** The files of deploy/kubernetes that `kubectl apply -f` takes from a folder, in its order. */
export function listAppliedFiles(): string[] {
  return readdirSync(KUBERNETES)
    .filter((name) => /\.(?:yaml|yml|json)$/.test(name))
    .toSorted();
}

/** The objects of one file of deploy/kubernetes. Errors: throws where it is no YAML, or has a key twice. */
export function readManifests(file: string): Manifest[] {
  return parseAllDocuments(readFileSync(join(KUBERNETES, file), "utf8")).map((document) => {
    if (document.errors.length > 0) throw new Error(`${file}: ${document.errors.join(", ")}`);
    return document.toJS() as Manifest;
  });
}

/** All objects, those of the secret's template too. */
export function readAllManifests(): Manifest[] {
  return [...listAppliedFiles(), "secret.yaml.template"].flatMap(readManifests);
}

/** The one object of that kind and name. */
export function findManifest<Kind extends keyof Kinds>(kind: Kind, name: string): Kinds[Kind] {
  const found = readAllManifests().filter((manifest) => manifest.kind === kind && manifest.metadata.name === name);
  if (found.length !== 1) throw new Error(`${found.length} of ${kind} ${name}`);
  return found[0] as Kinds[Kind];
}

/** A container's variables as Kubernetes makes them: `$(NAME)` is replaced by a variable above. */
export function expandVariables(container: Container, podName: string, secret: Labels): Record<string, string> {
  const values: Record<string, string> = {};
  for (const { name, value, valueFrom } of container.env) {
    const key = valueFrom?.secretKeyRef?.key;
    const given = key === undefined ? value : secret[key];
    const text = valueFrom?.fieldRef === undefined ? given : podName;
    if (text === undefined && valueFrom?.secretKeyRef?.optional === true) continue;
    if (text === undefined) throw new Error(`${name} has no value`);
    values[name] = text.replace(/\$\((\w+)\)/g, (whole, other: string) => values[other] ?? whole);
  }
  return values;
}

/** A service of compose.yaml. */
export interface ComposeService {
  readonly image: string;
  readonly build?: unknown;
  readonly environment?: Readonly<Record<string, string>>;
  readonly volumes: readonly string[];
  readonly networks: readonly string[] | Readonly<Record<string, { readonly ipv4_address?: string }>>;
  readonly ports?: readonly string[];
  readonly stop_grace_period?: string;
  readonly read_only?: boolean;
}

export interface ComposeFile {
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}

/** deploy/compose.yaml, its anchors resolved and its variables as they are written there. */
export function readCompose(): ComposeFile {
  return parse(readFileSync(join(DEPLOY, "compose.yaml"), "utf8"), { merge: true }) as ComposeFile;
}

/** The text of a file next to compose.yaml. */
export function readComposeFile(name: string): string {
  return readFileSync(join(DEPLOY, "compose", name), "utf8");
}
