import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import packageJson from "../../package.json" with { type: "json" };
import packageLock from "../../package-lock.json" with { type: "json" };
import { HEALTH_PATH } from "../../src/api/health.ts";
import { untilDone, within } from "../support/deadline.ts";
import { DEPLOY, findManifest, readCompose } from "../support/manifests.ts";
import { unusedPort } from "../support/raw-backend.ts";

/** No test can build the image here; so its files are laid out as the Dockerfile says, and its command is run on them. */
setDefaultTimeout(60_000);

const REPOSITORY = dirname(DEPLOY);
const WORK_FOLDER = "/opt/hubwire";
const dockerfile = readFileSync(join(DEPLOY, "Dockerfile"), "utf8");
const ignored = readFileSync(join(REPOSITORY, ".dockerignore"), "utf8").split("\n");

/** The arguments of an instruction of the last stage, in JSON or as words. */
function instructions(name: string): string[][] {
  const stage = dockerfile.slice(dockerfile.lastIndexOf("\nFROM ")).replace(/\\\n\s*/g, "");
  return [...stage.matchAll(new RegExp(`^${name} (.*)$`, "gm"))].map(([, rest = ""]) =>
    rest.startsWith("[") ? (JSON.parse(rest) as string[]) : rest.split(/\s+/),
  );
}

const [entrypoint = []] = instructions("ENTRYPOINT");
const [command = []] = instructions("CMD");
/** What comes from the repository, and not from the stage before. */
const copied = instructions("COPY")
  .filter(([first = ""]) => !first.startsWith("--from="))
  .flatMap((words) => words.slice(0, -1));

describe("the Dockerfile", () => {
  test("copies what is there and what .dockerignore lets through", () => {
    expect(ignored).toContain("*");
    for (const name of [...copied, "package-lock.json"]) {
      expect(existsSync(join(REPOSITORY, name))).toBe(true);
      expect(ignored).toContain(`!${name}`);
    }
  });

  test("installs no package for development, and takes a Node that hubwire runs on", () => {
    expect(dockerfile).toMatch(/^RUN npm ci --omit=dev/m);
    const bases = [...dockerfile.matchAll(/^FROM node:(\d+)-slim/gm)].map(([, major]) => Number(major));
    expect(bases).toHaveLength(2);
    for (const major of bases) expect(major).toBeGreaterThanOrEqual(Number(/\d+/.exec(packageJson.engines.node)?.[0]));
  });

  test("agrees with compose and Kubernetes on user, port, configuration and volume", () => {
    const pod = findManifest("StatefulSet", "hubwire").spec.template.spec;
    const [{ volumeMounts, ports }] = pod.containers;
    const mounts = volumeMounts.map(({ mountPath }) => mountPath);
    const { runAsUser, runAsGroup } = pod.securityContext as Record<string, unknown>;
    expect(instructions("USER")).toEqual([[`${runAsUser}:${runAsGroup}`]]);
    expect(instructions("EXPOSE")).toEqual([ports.map(({ containerPort }) => String(containerPort))]);
    const [[volume = ""] = []] = instructions("VOLUME");
    const file = command[command.indexOf("--config") + 1] ?? "";
    expect(mounts).toContain(volume);
    expect(mounts).toContain(dirname(file));
    const inCompose = readCompose().services["hubwire-1"]?.volumes ?? [];
    expect(inCompose.map((entry) => entry.split(":")[1])).toEqual([file, volume]);
  });
});

describe("the image's command, as process 1", () => {
  const folder = mkdtempSync(join(tmpdir(), "hubwire-image-"));
  const root = join(folder, WORK_FOLDER);
  /** A process space of its own needs root; elsewhere the command is not process 1. */
  const isolation =
    spawnSync("unshare", ["--pid", "--fork", "true"]).status === 0 ? ["unshare", "--pid", "--fork"] : [];
  const started: ChildProcess[] = [];

  beforeAll(() => {
    for (const name of copied) cpSync(join(REPOSITORY, name), join(root, name), { recursive: true, filter: isKept });
    for (const [path, entry] of Object.entries(packageLock.packages)) {
      const source = join(REPOSITORY, path);
      if (path === "" || "dev" in entry || !existsSync(source)) continue;
      mkdirSync(dirname(join(root, path)), { recursive: true });
      symlinkSync(source, join(root, path));
    }
  });

  afterAll(() => {
    for (const child of started) child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });

  /** What .dockerignore takes out again. */
  function isKept(source: string): boolean {
    return !source.endsWith(".test.ts");
  }

  function start(port: number, dataDir: string): ChildProcess {
    const file = join(folder, "hubwire.yaml");
    const upstreams = [{ urlTemplate: "http://127.0.0.1:9/{event}" }];
    writeFileSync(file, JSON.stringify({ listen: { port }, dataDir: join(folder, dataDir), upstreams }));
    const words = [...entrypoint, ...command].map((word) =>
      word.startsWith(WORK_FOLDER) ? folder + word : word === "/etc/hubwire/hubwire.yaml" ? file : word,
    );
    const [program = "", ...args] = isolation.length > 0 ? [...isolation, "--kill-child=SIGKILL", ...words] : words;
    const child = spawn(program, args, { cwd: root, stdio: "ignore" });
    started.push(child);
    return child;
  }

  /** The health check's exit code, asked at another port than the image's. */
  async function checkHealth(port: number): Promise<number> {
    const [words = []] = instructions("HEALTHCHECK");
    const [program = "", ...args] = JSON.parse(words.slice(words.indexOf("CMD") + 1).join(" ")) as string[];
    const asked = args.map((word) => word.replace(`:8080${HEALTH_PATH}`, `:${port}${HEALTH_PATH}`));
    expect(asked).not.toEqual(args);
    const [code] = (await once(spawn(program, asked, { stdio: "ignore" }), "exit")) as [number];
    return code;
  }

  test("serves with the files of the image alone, passes its health check, and drains on SIGTERM", async () => {
    const port = await unusedPort();
    const child = start(port, "served");
    const exited = once(child, "exit");
    const healthy = async () => expect((await fetch(`http://127.0.0.1:${port}${HEALTH_PATH}`)).status).toBe(200);
    await within(untilDone(healthy), "the gateway's health");
    expect(await checkHealth(port)).toBe(0);
    process.kill(pidOfCommand(child), "SIGTERM");
    expect(await within(exited, "the gateway's end")).toEqual([0, null]);
    expect(await checkHealth(port)).toBe(1);
  });

  test.skipIf(isolation.length === 0)(
    "ends on a SIGTERM that comes while it still waits for its data folder",
    async () => {
      const first = start(await unusedPort(), "shared");
      const lock = join(folder, "shared", "lock");
      await within(
        untilDone(async () => expect(existsSync(lock)).toBe(true)),
        "the first one's lock",
      );
      const second = start(await unusedPort(), "shared");
      const exited = once(second, "exit");
      const bun = async () => expect(childrenOf(pidOfCommand(second))).not.toBeEmpty();
      await within(untilDone(bun), "the second one's start");
      process.kill(pidOfCommand(second), "SIGTERM");
      // By the signal itself, and not by the end of its patience, which is code 1.
      expect(await within(exited, "the second one's end")).toEqual([143, null]);
      first.kill("SIGKILL");
    },
  );

  /** The process that the kernel calls 1 in there. */
  function pidOfCommand(child: ChildProcess): number {
    const pid = child.pid ?? 0;
    const inner = isolation.length > 0 ? childrenOf(pid)[0] : pid;
    if (inner === undefined) throw new Error("it has not started");
    return inner;
  }
});

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return text === "" ? [] : text.split(" ").map(Number);
}
