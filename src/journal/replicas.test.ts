import { expect } from "bun:test";
import { until, within } from "../../test/support/deadline.ts";
import { ignoreNotices } from "../../test/support/notices.ts";
import { needs } from "../../test/support/programs.ts";
import { dueOf, factsOf, idOf, ReplicaStage, refusalOf, statesOf } from "../../test/support/replica-stage.ts";
import { NewerForm } from "../protocol/forms.ts";
import { formatEntry, formatMessage, formOf } from "./replica-message.ts";
import { Replicas } from "./replicas.ts";

const { afterEach, beforeEach, describe, test } = needs("nats-server");

let stage: ReplicaStage;

beforeEach(async () => {
  stage = await ReplicaStage.start();
});
afterEach(() => stage[Symbol.asyncDispose]());

const NOW = { form: 2, keptForMs: 0 };
const connecting = (id: string) => formatEntry({ state: "connecting", facts: factsOf(id) }, NOW);
function batchOf(...records: string[]): string {
  const head = { kind: "batch", author: "a", number: 1, part: 0, isLast: true } as const;
  return formatMessage(head, { text: records.join(","), form: NOW.form });
}

describe("the logs of other nodes", () => {
  test("have nothing of a node that nobody knows", async () => {
    const { logs } = await stage.startNode();
    expect(await logs.seize("nobody")).toEqual([]);
    await logs.forget("nobody");
    expect(await logs.seize("nobody")).toEqual([]);
  });

  test("give the same again to who seizes twice, and to another after the first has died", async () => {
    const { journal } = await stage.startNode();
    await Promise.all([journal.connecting(factsOf("c1")), journal.due(dueOf("c2"))]);
    const first = await stage.startNode();
    const found = await first.logs.seize(journal.nodeId);
    expect(statesOf(found)).toEqual(["c1 connecting", "c2 due"]);
    expect(await first.logs.seize(journal.nodeId)).toEqual(found);
    await first.kill();
    const second = await stage.startNode();
    expect(await second.logs.seize(journal.nodeId)).toEqual(found);
  });

  test("are one for each node", async () => {
    const one = await stage.startNode();
    const other = await stage.startNode();
    await one.journal.connecting(factsOf("c1"));
    await other.journal.connecting(factsOf("c2"));
    const { logs } = await stage.startNode();
    expect(statesOf(await logs.seize(one.journal.nodeId))).toEqual(["c1 connecting"]);
    await logs.forget(one.journal.nodeId);
    await other.journal.connecting(factsOf("c3"));
    expect(statesOf(await logs.seize(other.journal.nodeId))).toEqual(["c2 connecting", "c3 connecting"]);
  });

  test("are forgotten once what was taken over has been copied, and not before", async () => {
    const { journal, stream } = await stage.startNode();
    await journal.connecting(factsOf("c1"));
    const copied = Promise.withResolvers<void>();
    const logs = new Replicas({ stream, whenReplicated: () => copied.promise, report: ignoreNotices });
    const other = await stage.startNode();
    expect(await other.logs.seize(journal.nodeId)).toHaveLength(1);
    const forgotten = logs.forget(journal.nodeId);
    expect((await other.logs.seize(journal.nodeId)).map(idOf)).toEqual(["c1"]);
    copied.resolve();
    await forgotten;
    expect(await other.logs.seize(journal.nodeId)).toEqual([]);
  });

  test("are not forgotten where the own copy has stopped, or NATS is away", async () => {
    const { journal, stream, logs, reports } = await stage.startNode();
    const dead = await stage.startNode();
    await dead.journal.connecting(factsOf("c1"));
    const whenReplicated = () => Promise.reject(new Error("stopped"));
    const stopped = new Replicas({ stream, whenReplicated, report: ignoreNotices });
    expect(await refusalOf(stopped.forget(dead.journal.nodeId))).toBe("stopped");
    expect(await logs.seize(dead.journal.nodeId)).toHaveLength(1);
    await stage.server.stop();
    await reports.heard("replica-stopped");
    expect(await refusalOf(logs.forget(dead.journal.nodeId))).toContain("not being copied");
    expect(await refusalOf(logs.seize(dead.journal.nodeId))).toBe("NATS is away");
    await stage.server.restart();
    await reports.heard("replica-complete", 2);
    expect(journal.isCopying).toBe(true);
    expect((await logs.seize(dead.journal.nodeId)).map(idOf)).toEqual(["c1"]);
  });

  test("keep one small message of a node that was forgotten: its fence", async () => {
    const node = await stage.startNode();
    const { journal } = await stage.startNode();
    for (let index = 0; index < 5; index++) await journal.connecting(factsOf(`c${index}`));
    await node.logs.seize(journal.nodeId);
    await node.logs.forget(journal.nodeId);
    const { messages, bytes } = await node.streamState();
    expect(messages).toBe(1);
    expect(bytes).toBeLessThan(300);
  });

  test("in a newer form are left to a newer node, and nothing of them is skipped", async () => {
    const { logs, stream, reports } = await stage.startNode();
    await stream.append("dead", batchOf(connecting("c1")), null);
    await stream.append("dead", batchOf(connecting("c2")).replace("[2,", "[3,"), null);
    await expect(logs.seize("dead")).rejects.toThrow(NewerForm);
    expect(reports.told).not.toContain("replica-skipped dead 1");
  });

  test("hold what a node of 0.1 reads, from the moment that one is there", async () => {
    const node = await stage.startNode();
    const { journal } = node;
    const rare = { news: "https://a.example" };
    await journal.connecting(factsOf("c1", { rare }));
    const ages = { triedForMs: 5000, refusedForMs: 3000 };
    await journal.due(dueOf("c2", ages));
    expect(await node.readLog()).toMatchObject([{ facts: { rare } }, { due: ages }]);
    node.form = 1;
    journal.formChanged();
    const forms = async () => {
      const found: number[] = [];
      const last = await node.stream.last(journal.nodeId);
      await node.stream.read(journal.nodeId, last?.sequence ?? 0, ({ bytes }) => void found.push(formOf(bytes)));
      return found;
    };
    await until(async () => (await forms()).every((form) => form === 1), "the log to be written anew");
    await journal.connecting(factsOf("c3"));
    expect(statesOf(await node.readLog())).toEqual(["c1 connecting", "c2 due", "c3 connecting"]);
    expect(new Set(await forms())).toEqual(new Set([1]));
  });

  test("are read although there is rubbish in them, and it is said how much", async () => {
    const { logs, stream, reports } = await stage.startNode();
    await stream.append("dead", batchOf(connecting("c1"), connecting("c2")), null);
    for (const rubbish of [
      "",
      "no JSON",
      "[]",
      batchOf("[7]"),
      batchOf(connecting("c3")).slice(0, -9),
      "\u0000\ufffd",
    ]) {
      await stream.append("dead", rubbish, null);
    }
    await stream.append("dead", batchOf('[5,"c1"]'), null);
    expect(statesOf(await logs.seize("dead"))).toEqual(["c2 connecting"]);
    expect(reports.told).toContain("replica-skipped dead 6");
  });

  test("are read without entries of which no event can be made, and it is said how many", async () => {
    const { logs, stream, reports } = await stage.startNode();
    const entryOf = (id: string, changes: object) =>
      formatEntry({ state: "connected", facts: { ...factsOf(id), ...changes } }, NOW);
    const bad = [
      entryOf("a.b", {}),
      entryOf("", {}),
      entryOf("c1", { hub: "no hub" }),
      entryOf("c2", { userId: " ann" }),
      entryOf("c3", { userId: "a\r\nX: y" }),
      entryOf("c4", { claims: "a\r\nX: y" }),
      entryOf("c5", { clientQuery: "a\u0000" }),
      entryOf("c6", { forwardedFor: "a\nb" }),
      entryOf("c8", { claims: "a\u0100" }),
      entryOf("c9", { clientQuery: "a\ufffd" }),
      formatEntry({ state: "due", due: dueOf("c7", { facts: factsOf("c7", { hub: "" }) }) }, NOW),
    ];
    await stream.append("dead", batchOf(...bad, connecting("good"), entryOf("nobody", { userId: null })), null);
    expect(statesOf(await logs.seize("dead"))).toEqual(["good connecting", "nobody connected"]);
    expect(reports.told).toContain(`replica-skipped dead ${bad.length}`);
  });

  test("are read up to the fence, with anything behind it", async () => {
    const { logs, stream } = await stage.startNode();
    await stream.append("dead", batchOf(connecting("c1")), null);
    const seizing = logs.seize("dead");
    const behind = Array.from({ length: 20 }, (_, index) =>
      stream.append("dead", batchOf(connecting(`b${index}`)), null),
    );
    await Promise.all(behind);
    expect(statesOf(await seizing)).toEqual(["c1 connecting"]);
  });

  test("are read where they are long: many messages, and many connections", async () => {
    const { logs, stream } = await stage.startNode();
    for (let round = 0; round < 20; round++) {
      const written = Array.from({ length: 100 }, (_, index) => {
        return stream.append("dead", batchOf(connecting(`r${round}c${index}`)), null);
      });
      await Promise.all(written);
    }
    expect(await logs.seize("dead")).toHaveLength(2000);
    const { journal } = await stage.startNode();
    for (let index = 0; index < 50_000; index++) journal.entries.connecting(factsOf(`c${index}`));
    await journal.whenReplicated();
    const found = await logs.seize(journal.nodeId);
    expect(found).toHaveLength(50_000);
    expect(found.map(idOf).at(-1)).toBe("c49999");
  });

  test("are not read any further where the connection is lost meanwhile", async () => {
    const proxy = await stage.startProxy();
    const { logs } = await stage.startNode({ url: proxy.url });
    const { journal } = await stage.startNode();
    for (let index = 0; index < 5000; index++) journal.entries.connecting(factsOf(`c${index}`));
    await journal.whenReplicated();
    const reading = Promise.withResolvers<void>();
    proxy.passes = (text) => {
      if (text.includes('"snapshot"') || text.includes('"batch"')) reading.resolve();
      return !text.includes('"batch"');
    };
    const refusal = refusalOf(logs.seize(journal.nodeId));
    await within(reading.promise, "the log");
    proxy.cut();
    expect(await refusal).toContain("lost");
  });
});
