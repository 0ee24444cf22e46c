import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import { HEALTH_PATH } from "../../src/api/health.ts";
import { countReplicas } from "../../src/config/cluster-schema.ts";
import { type LoadedConfig, loadConfig } from "../../src/config/load.ts";
import { kubernetesCheck } from "../support/json-schemas.ts";
import {
  DEPLOY,
  expandVariables,
  findManifest,
  listAppliedFiles,
  type Manifest,
  type Probe,
  readAllManifests,
  readManifests,
} from "../support/manifests.ts";

const hubwire = findManifest("StatefulSet", "hubwire");
const nats = findManifest("StatefulSet", "nats");
const natsConf = findManifest("ConfigMap", "nats").data["nats.conf"] ?? "";
const secret = findManifest("Secret", "hubwire");
/** As the guide fills it in. */
const SECRETS = {
  "access-key-primary": "b".repeat(44),
  "access-key-secondary": "",
  "nats-password": "12e5",
  "nats-route-password": "34e5",
};

const folder = mkdtempSync(join(tmpdir(), "hubwire-deploy-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The ConfigMap's configuration, with the variables that the pod gets. */
function loadDeployed(
  secrets: Readonly<Record<string, string>>,
  more: Readonly<Record<string, string>> = {},
): LoadedConfig {
  const filePath = join(folder, "hubwire.yaml");
  writeFileSync(filePath, findManifest("ConfigMap", "hubwire").data["hubwire.yaml"] ?? "");
  const env = expandVariables(hubwire.spec.template.spec.containers[0], "hubwire-0", secrets);
  return loadConfig({ filePath, env: { ...env, ...more } });
}

describe("each manifest", () => {
  const check = kubernetesCheck();

  test.each([...listAppliedFiles(), "secret.yaml.template"])("of %s holds by the published schema", (file) => {
    const manifests = readManifests(file);
    expect(manifests).not.toBeEmpty();
    for (const manifest of manifests) expect(check(manifest)).toEqual([]);
  });

  test("is in the namespace, which comes first", () => {
    const [namespace, ...others] = readAllManifests();
    expect(namespace).toMatchObject({ kind: "Namespace", metadata: { name: "hubwire" } });
    for (const { metadata } of others) expect(metadata.namespace).toBe("hubwire");
  });

  const broken: readonly (readonly [string, Manifest, string, unknown, string])[] = [
    ["a field that is not there", hubwire, "spec.replica", 3, "/spec must NOT have additional properties (replica)"],
    ["a field one level too high", hubwire, "spec.template.containers", [], "(containers)"],
    ["a misspelt probe", hubwire, "spec.template.spec.containers.0.readynessProbe", {}, "(readynessProbe)"],
    [
      "a misspelt field of a probe",
      hubwire,
      "spec.template.spec.containers.0.livenessProbe.tcpSocket.prot",
      1,
      "(prot)",
    ],
    ["a field of compose", nats, "spec.template.spec.containers.0.environment", [], "(environment)"],
    ["a text for a number", hubwire, "spec.replicas", "3", "/spec/replicas must be integer"],
    ["a number for a text", hubwire, "spec.template.spec.containers.0.env.0.value", 1, "must be string"],
    [
      "a word that is no choice",
      nats,
      "spec.podManagementPolicy",
      "Sometimes",
      "must be equal to one of the allowed values",
    ],
    ["an amount without sense", nats, "spec.template.spec.containers.0.resources.limits.memory", "1GiB", "quantity"],
    ["a name that is missing", hubwire, "spec.template.spec.containers.0.name", undefined, "(name)"],
    ["another version", hubwire, "apiVersion", "apps/v1beta9", "there is no StatefulSet in apps/v1beta9"],
    ["a kind that is not there", secret, "kind", "Secrets", "there is no Secrets in v1"],
    ["a label that is no text", secret, "metadata.labels", { a: true }, "/metadata/labels/a must be string"],
  ];
  test.each(broken)("would be refused: %s", (_what, manifest, path, value, fault) => {
    const copy = structuredClone(manifest);
    replace(copy, path.split("."), value);
    expect(check(copy).join("\n")).toContain(fault);
  });
});

/** Puts a value at a place; undefined takes away what is there. */
function replace(tree: unknown, [key = "", ...rest]: readonly string[], value: unknown): void {
  const block = tree as Record<string, unknown>;
  if (rest.length > 0) replace(block[key], rest, value);
  else if (value === undefined) delete block[key];
  else block[key] = value;
}

describe("hubwire's configuration", () => {
  test("is accepted with the pod's variables, and nothing in it is worth a warning", () => {
    const { config, warnings } = loadDeployed(SECRETS);
    expect(warnings).toEqual([]);
    expect(config.accessKeys).toEqual({ primary: SECRETS["access-key-primary"], secondary: null });
    expect(config.cluster?.nats).toMatchObject({ user: "hubwire", password: SECRETS["nats-password"] });
  });

  test("is refused while the secret is as empty as its template", () => {
    expect(Object.values(secret.stringData).join("")).toBe("");
    expect(() => loadDeployed(secret.stringData)).toThrow("accessKeys.primary");
    expect(() => loadDeployed({ ...SECRETS, "nats-password": "" })).toThrow("cluster.nats.password: is required");
  });

  test("is accepted with the secret that the guide makes, which also NATS does with", () => {
    const guide = readFileSync(join(DEPLOY, "../docs/guides/deploy.md"), "utf8");
    const made = [...guide.matchAll(/--from-literal=([\w-]+)=/g)].map(([, key = ""]) => [key, "k".repeat(44)]);
    const secrets = Object.fromEntries(made) as Record<string, string>;
    expect(loadDeployed(secrets).warnings).toEqual([]);
    expect(Object.keys(expandVariables(nats.spec.template.spec.containers[0], "nats-0", secrets))).not.toBeEmpty();
  });

  test("is refused with the variables of a Service of that name, so the pod does without them", () => {
    expect(() => loadDeployed(SECRETS, { HUBWIRE_PORT: "tcp://10.0.0.1:80" })).toThrow("HUBWIRE_PORT");
    expect(hubwire.spec.template.spec.enableServiceLinks).toBe(false);
  });

  test("lies where the image's command looks for it, and its dataDir lies on the volume", () => {
    const { volumes } = hubwire.spec.template.spec;
    const { volumeMounts } = hubwire.spec.template.spec.containers[0];
    const mounted = (path: string) => volumeMounts.find(({ mountPath }) => mountPath === path)?.name;
    expect(volumes.find(({ name }) => name === mounted("/etc/hubwire"))?.configMap?.name).toBe("hubwire");
    const { dataDir } = loadDeployed(SECRETS).config;
    // A folder of its own there, which hubwire makes for itself alone: the volume's is open to the group `fsGroup`.
    const [claim] = hubwire.spec.volumeClaimTemplates;
    expect(mounted(dirname(dataDir))).toBe(claim?.metadata.name ?? "none");
  });

  test("is drained before the pod's grace is over, and health is looked at often enough for delayMs", () => {
    const { delayMs, spreadMs, drainTimeoutMs } = loadDeployed(SECRETS).config.shutdown;
    const { terminationGracePeriodSeconds, containers } = hubwire.spec.template.spec;
    expect(terminationGracePeriodSeconds * 1000).toBeGreaterThan(drainTimeoutMs);
    expect(delayMs + spreadMs).toBeLessThan(drainTimeoutMs);
    const { periodSeconds, failureThreshold } = containers[0].readinessProbe;
    expect(delayMs).toBeGreaterThan(periodSeconds * failureThreshold * 1000);
  });

  test("listens where the probes and Services look; only readiness asks for health", () => {
    const { listen } = loadDeployed(SECRETS).config;
    const { readinessProbe, startupProbe, livenessProbe, ports, image } = hubwire.spec.template.spec.containers[0];
    expect(listen.host).toBe("0.0.0.0");
    expect(listen.api?.host).toBe("0.0.0.0");
    expect(ports).toEqual([
      { name: "http", containerPort: listen.port },
      { name: "api", containerPort: listen.api?.port ?? 0 },
    ]);
    expect(readinessProbe.httpGet).toEqual({ path: HEALTH_PATH, port: "http" });
    for (const probe of [startupProbe, livenessProbe]) {
      expect(probe.tcpSocket).toEqual({ port: "http" });
      expect(probe.httpGet).toBeUndefined();
    }
    expect(image).toEndWith(`/hubwire:${packageJson.version}`);
  });

  test("has the REST API at a Service of its own, whose name tokens may bear; that of the clients does not lead there", () => {
    const targets = (name: string) => findManifest("Service", name).spec.ports.map(({ targetPort }) => targetPort);
    expect([targets("hubwire"), targets("hubwire-api")]).toEqual([["http"], ["api"]]);
    const { namespace } = hubwire.metadata;
    expect(loadDeployed(SECRETS).config.publicUrls).toContain(`http://hubwire-api.${namespace}.svc`);
  });

  test("names every server of NATS, so that each stream is kept three times, and the user that they let in", () => {
    const { nats: options } = loadDeployed(SECRETS).config.cluster ?? {};
    const servers = Array.from(
      { length: nats.spec.replicas },
      (_, i) => `nats://nats-${i}.${nats.spec.serviceName}:4222`,
    );
    expect(options?.servers).toEqual(servers);
    expect(options && countReplicas(options)).toBe(3);
    expect(natsConf).toContain(`user: ${options?.user}, password: $NATS_PASSWORD`);
  });
});

describe.each([
  ["hubwire", hubwire],
  ["nats", nats],
] as const)("the pods of %s", (name, set) => {
  const labels = set.spec.template.metadata.labels;
  const { containers, ...pod } = set.spec.template.spec;
  const [container] = containers;

  test("are what it, its Services and its disruption budget select", () => {
    expect(set.spec.selector.matchLabels).toEqual(labels);
    expect(findManifest("Service", set.spec.serviceName).spec.clusterIP).toBe("None");
    for (const manifest of readAllManifests().filter(({ kind }) => kind === "Service")) {
      const { selector, ports } = findManifest("Service", manifest.metadata.name).spec;
      if (manifest.metadata.labels?.["app.kubernetes.io/name"] !== name) continue;
      expect(selector).toEqual(labels);
      for (const { targetPort } of ports) expect(container.ports.map((port) => port.name)).toContain(targetPort);
    }
    const { spec } = findManifest("PodDisruptionBudget", name);
    expect(spec.selector.matchLabels).toEqual(labels);
    // JetStream needs a majority; for hubwire it is more than enough.
    expect(set.spec.replicas - spec.maxUnavailable).toBeGreaterThan(set.spec.replicas / 2);
  });

  test("take keys of the secret that are there", () => {
    const references = container.env.flatMap(({ valueFrom }) => valueFrom?.secretKeyRef ?? []);
    expect(references).not.toBeEmpty();
    for (const { name: of, key } of references) {
      expect(of).toBe(secret.metadata.name);
      expect(Object.keys(secret.stringData)).toContain(key);
    }
  });

  test("mount what is there, and probe ports that are there", () => {
    const there = [...pod.volumes, ...set.spec.volumeClaimTemplates.map(({ metadata }) => metadata)];
    expect(container.volumeMounts.map((mount) => mount.name).toSorted()).toEqual(
      there.map((volume) => volume.name).toSorted(),
    );
    const portOf = ({ httpGet, tcpSocket }: Probe) => httpGet?.port ?? tcpSocket?.port;
    for (const probe of [container.readinessProbe, container.startupProbe, container.livenessProbe]) {
      expect(container.ports.map((port) => port.name)).toContain(portOf(probe) ?? "none");
    }
  });

  test("run as the namespace demands: no root, no privileges, no account of the cluster's", () => {
    expect(pod.automountServiceAccountToken).toBe(false);
    expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
  });
});

describe("NATS", () => {
  test("is reached by hubwire and by its own servers only", () => {
    const { podSelector, policyTypes, ingress } = findManifest("NetworkPolicy", "nats").spec;
    expect(podSelector.matchLabels).toEqual(nats.spec.template.metadata.labels);
    expect(policyTypes).toEqual(["Ingress"]);
    const admitted = ingress.map(({ from, ports }) => [
      from.map((peer) => peer.podSelector.matchLabels),
      ports.map(({ port }) => port),
    ]);
    expect(admitted).toEqual([
      [[hubwire.spec.template.metadata.labels], ["client"]],
      [[nats.spec.template.metadata.labels], ["route"]],
    ]);
  });

  test("has time for its lame duck mode, and a volume that its files fit on", () => {
    const seconds = (key: string) => Number(new RegExp(`${key}: (\\d+)s`).exec(natsConf)?.[1]);
    const { terminationGracePeriodSeconds } = nats.spec.template.spec;
    expect(terminationGracePeriodSeconds).toBeGreaterThan(
      seconds("lame_duck_grace_period") + seconds("lame_duck_duration"),
    );
    const maxFileStoreGb = Number(/max_file_store: (\d+)GB/.exec(natsConf)?.[1]);
    const storage = nats.spec.volumeClaimTemplates[0]?.spec.resources.requests.storage ?? "";
    expect(storage).toMatch(/^\d+Gi$/);
    expect(Number.parseInt(storage, 10)).toBeGreaterThan(maxFileStoreGb);
  });
});
