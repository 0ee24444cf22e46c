import type { Logger } from "pino";
import { ConfigError, type Fault } from "../config/faults.ts";
import { type ConfigSources, type LoadedConfig, loadConfig } from "../config/load.ts";
import { findCutEnd, findOpenings } from "../config/openings.ts";
import type { Config } from "../config/schema.ts";
import { ConfigWatch } from "../config/watch.ts";

/** The part that takes over a new configuration. Errors: as those of `Gateway.reload`. */
export interface Reloadable {
  reload(config: Config): readonly string[];
}

const RELOADED = "configuration reloaded";
const REFUSED = "configuration refused: the one before goes on";
const HINT =
  "the file may have been cut while it was written; to open what it leaves out, write the values or send SIGHUP";

/** Why the configuration is loaded again. SIGHUP is an operator's word that the file is as it is meant to be. */
export type ReloadCause = "SIGHUP" | "the file has changed";

/**
 * Loads the configuration again, when it is asked to and when the file changes, and hands it to the running gateway.
 *
 * Shape:  file, environment and flags stay those of the start; a file that was not there then is not looked for.
 * Errors: none; a file that cannot be used is logged with all its faults, and the previous configuration stays in force. So does it where a
 *         changed file leaves protections out, or may be cut (decision 0023); SIGHUP takes that file, and a warning names what it
 *         has opened. A warning names the options that changed and take effect at the next start only.
 * Order:  what is asked for before `start` is done by `start`.
 */
export class ConfigReload {
  readonly #sources: ConfigSources;
  readonly #filePath: string | null;
  readonly #log: Logger;
  readonly #watch: ConfigWatch | null;
  #inForce: LoadedConfig;
  #target: Reloadable | null = null;
  #askedBefore: ReloadCause | null = null;

  /** To be made right after the configuration was loaded: later changes of the file count from here. */
  constructor(sources: ConfigSources, loaded: LoadedConfig, log: Logger) {
    const { filePath } = loaded;
    this.#sources = { ...sources, filePath };
    this.#filePath = filePath;
    this.#log = log;
    this.#inForce = loaded;
    this.#watch = filePath === null ? null : new ConfigWatch(filePath, () => this.ask("the file has changed"));
  }

  start(target: Reloadable): void {
    this.#target = target;
    if (this.#askedBefore !== null) this.ask(this.#askedBefore);
  }

  ask(why: ReloadCause): void {
    // One text for the watch and the loader: the file may be written between two looks at it.
    const fileText = this.#watch?.read() ?? null;
    if (this.#target === null) {
      this.#askedBefore = why;
      return;
    }
    const facts = { why, file: this.#filePath };
    try {
      const next = loadConfig({ ...this.#sources, fileText });
      const opened = findOpenings(this.#inForce, next);
      const faults = why === "SIGHUP" ? [] : [...opened, ...findCutEnd(this.#inForce, next)];
      if (faults.length > 0) this.#log.error({ ...facts, faults, hint: HINT }, REFUSED);
      else this.#take(next, { facts, opened, target: this.#target });
    } catch (error) {
      if (error instanceof ConfigError) this.#log.error({ ...facts, faults: error.faults }, REFUSED);
      else this.#log.error({ ...facts, err: error }, REFUSED);
    }
  }

  #take(
    next: LoadedConfig,
    { facts, opened, target }: { facts: object; opened: readonly Fault[]; target: Reloadable },
  ): void {
    const atNextStart = target.reload(next.config);
    this.#inForce = next;
    for (const warning of next.warnings) this.#log.warn(warning);
    const notes = { ...(atNextStart.length > 0 && { atNextStart }), ...(opened.length > 0 && { opened }) };
    if (Object.keys(notes).length === 0) this.#log.info(facts, RELOADED);
    else this.#log.warn({ ...facts, ...notes }, RELOADED);
  }

  /** No reload any more. May be called twice. */
  stop(): void {
    this.#watch?.stop();
    this.#target = null;
  }
}
