import type { Logger } from "pino";
import { ConfigError } from "./config/faults.ts";
import { type ConfigSources, type LoadedConfig, loadConfig } from "./config/load.ts";
import type { Config } from "./config/schema.ts";
import { ConfigWatch } from "./config/watch.ts";

/** What takes over a new configuration. Errors: as those of `Gateway.reload`. */
export interface Reloadable {
  reload(config: Config): readonly string[];
}

const RELOADED = "configuration reloaded";
const REFUSED = "configuration refused: the one before goes on";

/**
 * Loads the configuration again, when it is asked to and when the file changes, and hands it to the running gateway.
 *
 * Shape:  file, environment and flags stay those of the start; a file that was not there then is not looked for.
 * Errors: none; what cannot be used is logged with all its faults, and the configuration before goes on. A warning names
 *         the options that changed and take effect at the next start only.
 * Order:  what is asked for before `start` is done by `start`.
 */
export class ConfigReload {
  readonly #sources: ConfigSources;
  readonly #filePath: string | null;
  readonly #log: Logger;
  readonly #watch: ConfigWatch | null;
  #target: Reloadable | null = null;
  #askedBefore: string | null = null;

  /** To be made right after the configuration was loaded: later changes of the file count from here. */
  constructor(sources: ConfigSources, { filePath }: LoadedConfig, log: Logger) {
    this.#sources = { ...sources, filePath };
    this.#filePath = filePath;
    this.#log = log;
    this.#watch = filePath === null ? null : new ConfigWatch(filePath, () => this.ask("the file has changed"));
  }

  start(target: Reloadable): void {
    this.#target = target;
    if (this.#askedBefore !== null) this.ask(this.#askedBefore);
  }

  /** `why` is for the log. */
  ask(why: string): void {
    if (this.#target === null) {
      this.#askedBefore = why;
      return;
    }
    this.#watch?.rebase();
    const facts = { why, file: this.#filePath };
    try {
      const { config, warnings } = loadConfig(this.#sources);
      const atNextStart = this.#target.reload(config);
      for (const warning of warnings) this.#log.warn(warning);
      if (atNextStart.length === 0) this.#log.info(facts, RELOADED);
      else this.#log.warn({ ...facts, atNextStart }, RELOADED);
    } catch (error) {
      if (error instanceof ConfigError) this.#log.error({ ...facts, faults: error.faults }, REFUSED);
      else this.#log.error({ ...facts, err: error }, REFUSED);
    }
  }

  /** No reload any more. May be called twice. */
  stop(): void {
    this.#watch?.stop();
    this.#target = null;
  }
}
