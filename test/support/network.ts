import { spawnSync } from "node:child_process";
import { requireProgram } from "./programs.ts";

/** How many networks this process has made: their addresses must differ. */
class Numbers {
  #last = process.pid % 200;

  next(): number {
    this.#last = (this.#last + 1) % 200;
    return this.#last;
  }
}

const numbers = new Numbers();

/** Whether this process may make network namespaces; root with iproute2 may, as CI does. */
export function canMakeNetworks(): boolean {
  const name = `hw-probe-${process.pid}`;
  if (spawnSync("ip", ["netns", "add", name]).status !== 0) return false;
  // In a chroot a namespace can be made, but not entered.
  const { status } = spawnSync("ip", ["netns", "exec", name, "true"]);
  spawnSync("ip", ["netns", "del", name]);
  return status === 0;
}

/**
 * A network of its own (`ip netns`) on this machine, with two cables to this one: either can be cut without the other.
 *
 *     here ── 10.231.n.1 ═══ `first` ══ 10.231.n.2 ── inside
 *          ── 10.231.n.5 ═══ `second` ═ 10.231.n.6 ──
 */
export class Network implements Disposable {
  readonly #name: string;
  readonly #first: string;
  readonly #second: string;
  readonly #prefix: string;

  constructor() {
    requireProgram("ip");
    const number = numbers.next();
    this.#name = `hubwire-${process.pid}-${number}`;
    this.#first = `hwa${number}`;
    this.#second = `hwb${number}`;
    this.#prefix = `10.231.${number}`;
    run("netns", "add", this.#name);
    try {
      this.#lay(this.#first, `${this.#prefix}.1/30`, `${this.#prefix}.2/30`);
      this.#lay(this.#second, `${this.#prefix}.5/30`, `${this.#prefix}.6/30`);
      run("-n", this.#name, "link", "set", "lo", "up");
    } catch (fault) {
      this[Symbol.dispose]();
      throw fault;
    }
  }

  /** This machine's address at the first cable's end. */
  get hereByFirst(): string {
    return `${this.#prefix}.1`;
  }

  /** This machine's address at the second cable's end. */
  get hereBySecond(): string {
    return `${this.#prefix}.5`;
  }

  /** The inner address at the second cable's end. */
  get insideBySecond(): string {
    return `${this.#prefix}.6`;
  }

  /** The words in front of a command that run it inside. */
  get within(): readonly string[] {
    return ["ip", "netns", "exec", this.#name];
  }

  /** From here on nothing goes over the first cable, and nobody is told. */
  cutFirst(): void {
    run("-n", this.#name, "link", "set", `${this.#first}i`, "down");
  }

  healFirst(): void {
    run("-n", this.#name, "link", "set", `${this.#first}i`, "up");
  }

  [Symbol.dispose](): void {
    spawnSync("ip", ["netns", "del", this.#name]);
    for (const cable of [this.#first, this.#second]) spawnSync("ip", ["link", "del", cable]);
  }

  #lay(cable: string, here: string, inside: string): void {
    run("link", "add", cable, "type", "veth", "peer", "name", `${cable}i`, "netns", this.#name);
    run("addr", "add", here, "dev", cable);
    run("link", "set", cable, "up");
    run("-n", this.#name, "addr", "add", inside, "dev", `${cable}i`);
    run("-n", this.#name, "link", "set", `${cable}i`, "up");
  }
}

function run(...args: readonly string[]): void {
  const { status, stderr } = spawnSync("ip", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr}`);
}
