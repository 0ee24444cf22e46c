import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { CoreStage, connectRequest, STAGE_BEGINS_MS, someFacts } from "../../test/support/core-stage.ts";
import { settled } from "../../test/support/fake-clock.ts";
import { answer } from "../../test/support/scripted-upstream.ts";
import { NewerForm } from "../protocol/forms.ts";
import { endOldConnections } from "./drain.ts";
import type { JournalEntry } from "./ports/journal.ts";
import type { Leases, NodeJournals } from "./ports/takeover.ts";
import { listKnown, Takeover } from "./takeover.ts";

/** The other nodes' leases and journals, and every step that was asked for, in order. */
class OtherNodes implements Leases, NodeJournals {
  readonly steps: string[] = [];
  readonly left = new Map<string, JournalEntry[]>();
  isClaimable = true;
  /** The step that is refused. */
  failing = "";

  async claim(nodeId: string): Promise<boolean> {
    this.#step("claim", nodeId);
    return this.isClaimable;
  }

  async end(nodeId: string): Promise<void> {
    this.#step("end", nodeId);
  }

  async seize(nodeId: string): Promise<JournalEntry[]> {
    this.#step("seize", nodeId);
    return this.left.get(nodeId) ?? [];
  }

  async forget(nodeId: string): Promise<void> {
    this.#step("forget", nodeId);
    this.left.delete(nodeId);
  }

  #step(name: string, nodeId: string): void {
    if (this.failing === name) throw new Error(`${name} was refused`);
    this.steps.push(`${name} ${nodeId}`);
  }
}

let stage: CoreStage;
let others: OtherNodes;
let takeover: Takeover;

beforeEach(() => {
  stage = new CoreStage();
  others = new OtherNodes();
  const { journal, redelivery, report } = stage;
  takeover = new Takeover({ leases: others, nodeJournals: others, journal, redelivery, report, timeOfDayMs: () => 5 });
});
afterEach(() => {
  stage.stop();
});

const LEFT: JournalEntry[] = [
  {
    state: "connected",
    facts: someFacts({ connectionId: "a", userId: "ann", clientQuery: "x=1", claims: "sub: ann" }),
  },
  { state: "connecting", facts: someFacts({ connectionId: "b" }) },
  {
    state: "due",
    due: {
      facts: someFacts({ connectionId: "c" }),
      end: { code: 1001, reason: "" },
      connectOutcomeUnknown: false,
      dueSinceMs: 3,
      triedForMs: 2000,
      refusedForMs: 1500,
    },
  },
  {
    state: "dead",
    letter: {
      facts: someFacts({ connectionId: "d" }),
      end: { code: 1000, reason: "" },
      connectOutcomeUnknown: false,
      dueSinceMs: 1,
      triedForMs: 3_600_000,
      refusedForMs: 0,
      diedAtMs: STAGE_BEGINS_MS,
      keptForMs: 86_400_000,
      cause: "status 500",
    },
  },
];

/** What the upstream was told of each connection. */
function disconnects(): unknown[] {
  return stage.upstream.of("disconnect").map(({ event }) => {
    if (event.name !== "disconnect") throw new Error("no disconnect");
    return [event.facts.connectionId, event.closeCode, event.closeReason, event.connectOutcomeUnknown];
  });
}

describe("taking over a node", () => {
  test("sends what it owed, its own ends kept, and goes on in the one order that loses nothing", async () => {
    others.left.set("gone", LEFT);
    await takeover.takeOver("gone");
    await stage.clock.advance(1000);
    expect(disconnects()).toEqual([
      ["a", 1006, "gateway node lost", false],
      ["b", 1006, "gateway node lost", true],
      ["c", 1001, "", false],
    ]);
    expect(stage.upstream.of("disconnect")[0]?.event.facts).toMatchObject({ userId: "ann", clientQuery: "x=1" });
    expect(others.steps).toEqual(["claim gone", "seize gone", "forget gone", "end gone"]);
    expect(stage.report.lines).toContain("taken over gone 4");
    expect(await stage.journal.deadLetters(0, 10)).toMatchObject([
      { cause: "status 500", diedAtMs: STAGE_BEGINS_MS, keptForMs: 86_400_000, triedForMs: 3_600_000 },
    ]);
  });

  test("sends the second event of a connect that had timed out there, with its own id", async () => {
    const [, , due] = LEFT;
    if (due?.state !== "due") throw new Error("no due entry");
    others.left.set("gone", [{ state: "due", due: { ...due.due, nth: "second" } }]);
    await takeover.takeOver("gone");
    await stage.clock.advance(1000);
    expect(stage.upstream.calls.map(({ event }) => event.eventId)).toEqual(["c.disconnect.2"]);
  });

  test("goes on counting how long the backend has refused an event", async () => {
    const [, , due] = LEFT;
    if (due?.state !== "due") throw new Error("no due entry");
    others.left.set("gone", [{ state: "due", due: { ...due.due, refusedForMs: 299_000 } }]);
    stage.upstream.script = () => answer(404);
    await takeover.takeOver("gone");
    await stage.clock.advance(900);
    expect(stage.report.dead).toEqual([]);
    await stage.clock.advance(400);
    expect(stage.report.dead).toMatchObject([{ connectionId: "c", cause: "answered with status 404" }]);
  });

  test("has everything in this node's journal before the other's is forgotten", async () => {
    others.left.set("gone", LEFT);
    others.failing = "forget";
    await takeover.takeOver("gone");
    expect(await stage.journal.waiting(0, 10)).toHaveLength(3);
    expect(stage.report.lines).toContain("takeover failed gone forget was refused");
    expect(others.steps).toEqual(["claim gone", "seize gone"]);
  });

  test("whose lease another has, or that has come back, touches nothing", async () => {
    others.isClaimable = false;
    await takeover.takeOver("gone");
    expect(others.steps).toEqual(["claim gone"]);
  });

  test("that fails at any step is reported, and the next try begins from the start", async () => {
    others.left.set("gone", LEFT);
    for (const step of ["claim", "seize", "forget", "end"]) {
      others.failing = step;
      await takeover.takeOver("gone");
    }
    others.failing = "";
    others.steps.length = 0;
    await takeover.takeOver("gone");
    expect(others.steps).toEqual(["claim gone", "seize gone", "forget gone", "end gone"]);
    expect(stage.report.lines.filter((line) => line.startsWith("takeover failed"))).toHaveLength(4);
  });

  test("whose journal only a newer version can read is left to a node of that version", async () => {
    others.seize = () => Promise.reject(new NewerForm("the log of gone", 3));
    await takeover.takeOver("gone");
    await takeover.takeOver("gone");
    await takeover.reclaim("gone", new Set());
    expect(others.steps).toEqual(["claim gone"]);
    expect(stage.report.lines.filter((line) => line.startsWith("takeover failed gone"))).toHaveLength(1);
  });

  test("is done once at a time", async () => {
    await Promise.all([takeover.takeOver("gone"), takeover.takeOver("gone"), takeover.takeOver("other")]);
    expect(others.steps.filter((step) => step === "claim gone")).toHaveLength(1);
    expect(others.steps).toContain("end other");
  });

  test("that this process was itself: what its own journal has stays as it is, the rest comes from the replica", async () => {
    others.left.set("before", LEFT);
    const own = {
      end: { code: 1006, reason: "gateway restarted" },
      connectOutcomeUnknown: false,
      dueSinceMs: 4,
      triedForMs: 0,
      refusedForMs: 0,
    };
    await stage.journal.due({ facts: someFacts({ connectionId: "a", userId: "ann" }), ...own });
    await stage.journal.due({ facts: someFacts({ connectionId: "d" }), ...own });
    await stage.journal.died("d", { diedAtMs: STAGE_BEGINS_MS, cause: "its own cause", keptForMs: 0 });
    const known = await listKnown(stage.journal);
    expect([...known].sort()).toEqual(["a", "d"]);
    // By the time that NATS is reached it has been sent, and the journal has forgotten it.
    stage.redelivery.start();
    await stage.clock.advance(1000);
    await takeover.reclaim("before", known);
    await stage.clock.advance(1000);
    expect(disconnects()).toEqual([
      ["a", 1006, "gateway restarted", false],
      ["b", 1006, "gateway node lost", true],
      ["c", 1001, "", false],
    ]);
    expect(await stage.journal.deadLetters(0, 10)).toMatchObject([{ cause: "its own cause" }]);
    expect(others.steps).toEqual(["claim before", "seize before", "forget before", "end before"]);
  });

  test("that this process was itself, while its own journal cannot be read: all comes from the replica", async () => {
    others.left.set("before", LEFT);
    stage.journal.waiting = () => Promise.reject(new Error("its file is not open"));
    await takeover.reclaim("before", await listKnown(stage.journal));
    const adopted = await Promise.all(["a", "b", "c"].map((id) => stage.journal.read(id)));
    expect(adopted.every((due) => due !== null)).toBe(true);
  });
});

describe("a lease that was lost", () => {
  test("ends all connections with 1012; what another node answers for posts nothing more, the rest has its disconnect", async () => {
    const [copied, own] = [stage.open({ connectionId: "copied" }), stage.open({ connectionId: "own" })];
    const { registry, lifecycle, clock } = stage;
    const ending = endOldConnections(
      { registry, lifecycle, clock },
      { disowned: new Set(["copied", "x"]), spreadMs: 1000 },
    );
    await copied.send("not for the upstream");
    await own.send("for the upstream");
    await clock.advance(1000);
    await ending;
    await settled();
    for (const { socket } of [copied, own]) expect(socket.done).toEqual(["close 1012 node was cut off"]);
    expect(stage.upstream.of("message").map(({ event }) => event.facts.connectionId)).toEqual(["own"]);
    expect(disconnects()).toEqual([["own", 1012, "node was cut off", false]]);
    expect([stage.outstanding.count, registry.size]).toEqual([0, 0]);
    expect([...stage.broker.counts]).toEqual([]);
  });

  test("drops what waits behind a call in flight, and that call's answer still arrives", async () => {
    const { socket, send } = stage.open({ connectionId: "copied" });
    stage.upstream.script = ({ name }) => (name === "message" ? null : answer(204));
    await send("one", "two", "three");
    const { registry, lifecycle, clock } = stage;
    const ending = endOldConnections({ registry, lifecycle, clock }, { disowned: new Set(["copied"]), spreadMs: 0 });
    stage.upstream.settleFirst(answer(200, [], "answered"));
    await ending;
    await settled();
    expect(stage.upstream.of("message")).toHaveLength(1);
    expect(socket.sent).toEqual(["answered"]);
    expect(socket.done).toEqual(["close 1012 node was cut off"]);
    expect([stage.upstream.of("disconnect").length, stage.outstanding.count]).toEqual([0, 0]);
  });

  test("has a second disconnect of a client whose connect was answered with a 2xx that cannot be used", async () => {
    stage.isOwn = () => false;
    stage.upstream.script = () => answer(200, [["Sec-WebSocket-Protocol", ""]]);
    const facts = someFacts({ connectionId: "old", userId: "ann" });
    await stage.admission.connect(connectRequest(facts));
    await settled();
    expect(stage.upstream.of("disconnect").map(({ event }) => event.eventId)).toEqual(["old.disconnect.2"]);
  });

  test("turns away who was just being let in, with the disconnect that the upstream is owed", async () => {
    stage.isOwn = () => false;
    const facts = someFacts({ connectionId: "old", userId: "ann" });
    const admitted = await stage.admission.connect(connectRequest(facts));
    expect(admitted).toMatchObject({ kind: "refuse", refusal: { status: 503, code: "lease_lost" } });
    await settled();
    expect(disconnects()).toEqual([["old", 1006, "handshake failed", false]]);
    // The other node may have sent the first one before connect was answered.
    expect(stage.upstream.of("disconnect")[0]?.event.eventId).toBe("old.disconnect.2");
    expect([...stage.broker.counts]).toEqual([]);
  });
});
