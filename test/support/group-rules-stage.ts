import { GroupRules } from "../../src/core/group-rules.ts";
import type { GroupRule, RuleChange, RuleKey, RuleWrite } from "../../src/core/rule-store.ts";
import { FakeClock } from "./fake-clock.ts";
import { MemoryRuleStore } from "./memory-rule-store.ts";
import { hearing } from "./notices.ts";

const NOON_MS = Date.UTC(2025, 5, 1, 12);

/** A disk that can be full: a real store that rejects instead of changing while `failing` is set. */
export class FullDisk extends MemoryRuleStore {
  failing = false;
  override isCurrent = true;

  override async put(rule: GroupRule): Promise<RuleWrite> {
    this.#check();
    return await super.put(rule);
  }

  override async remove(keys: readonly RuleKey[]): Promise<RuleWrite> {
    this.#check();
    return await super.remove(keys);
  }

  override async forget(ended: readonly RuleChange[]): Promise<void> {
    this.#check();
    await super.forget(ended);
  }

  #check(): void {
    if (this.failing) throw new Error("database or disk is full");
  }
}

/** Group rules over a store that outlives them, with time in the test's hand. */
export class GroupRulesStage {
  readonly store = new FullDisk();
  readonly clock = new FakeClock();
  /** Moves the time of day against the clock, as an administrator or NTP does. */
  dayOffsetMs = 0;
  readonly begun: string[] = [];
  readonly expired: string[] = [];
  readonly faults: unknown[] = [];
  /** Called at each end of a rule, after it was recorded. */
  onExpired: (hub: string, userId: string, group: string) => void = () => {};
  rules = this.#start();

  timeOfDayMs(): number {
    return NOON_MS + this.clock.now() + this.dayOffsetMs;
  }

  /** Ends the rules' process for a while and starts another one over the same store. */
  async restart(downMs: number): Promise<void> {
    this.rules.stop();
    await this.clock.advance(downMs);
    this.rules = this.#start();
  }

  #start(): GroupRules {
    this.store.time = () => this.timeOfDayMs();
    const rules = new GroupRules({
      store: this.store,
      clock: this.clock,
      report: hearing({ fault: ({ error }) => void this.faults.push(error) }),
      onBegun: (hub, userId, group) => void this.begun.push([hub, userId, group].join("/")),
      onExpired: (hub, userId, group) => {
        this.expired.push([hub, userId, group].join("/"));
        this.onExpired(hub, userId, group);
      },
    });
    // The store of these tests tells what it holds before it returns.
    void rules.load();
    return rules;
  }
}
