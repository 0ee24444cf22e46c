import { expect, setDefaultTimeout, test } from "bun:test";
import { Gate, until } from "../support/deadline.ts";
import { acceptAs } from "../support/raw-backend.ts";
import { jsonError, Stack } from "../support/stack.ts";
import { inForm, recordFigure } from "./support/form.ts";

/** One address against all others at the door. */
setDefaultTimeout(10 * 60_000);

const ATTACKER = "127.0.0.66";
const HANDSHAKES = inForm({ short: 400, long: 4000 });
const OTHERS = inForm({ short: 40, long: 400 });
/** The others that connect at the same time. */
const ABREAST = 20;

test(`${HANDSHAKES} handshakes of one address, whose clients leave at once, shut none of ${OTHERS} others out`, async () => {
  const limits = inForm({ short: { maxPendingUpgrades: 128 }, long: {} });
  await using stack = await Stack.start({ config: { limits } });
  const gate = new Gate();
  stack.backend.onConnect = async (exchange) => {
    if (exchange.request.header("X-Forwarded-For") === ATTACKER) await gate.opened;
    acceptAs("ada")(exchange);
  };
  const share = Math.ceil(("maxPendingUpgrades" in limits ? limits.maxPendingUpgrades : 1024) / 4);
  const ofAttacker = () => stack.backend.of("connect", (connect) => connect.header("X-Forwarded-For") === ATTACKER);

  let refused = 0;
  for (let i = 0; i < HANDSHAKES; i++) {
    const before = ofAttacker().length;
    const client = await stack.dial({ localAddress: ATTACKER });
    client.write(client.handshake({ port: stack.port }));
    if (before < share) {
      await until(() => ofAttacker().length > before, "the connect event");
    } else {
      const answer = await client.answer();
      expect([answer.status, jsonError(answer.body).code]).toEqual([429, "pending_upgrade_rate"]);
      refused++;
    }
    client.destroy();
  }
  expect([ofAttacker().length, refused]).toEqual([share, HANDSHAKES - share]);

  const tookMs: number[] = [];
  for (let i = 0; i < OTHERS; i += ABREAST) {
    const startedMs = performance.now();
    await Promise.all(Array.from({ length: ABREAST }, () => stack.open({ localAddress: "127.0.0.7" })));
    tookMs.push((performance.now() - startedMs) / ABREAST);
  }
  gate.open();
  await until(() => stack.backend.of("disconnect").length === share, "the disconnects of those that left");
  const worst = Math.max(...tookMs).toFixed(1);
  recordFigure(
    `${HANDSHAKES} handshakes of one address to a backend that does not answer, clients gone: waiting at the backend, refused`,
    `${share}, ${refused}`,
    `${share}, the rest`,
  );
  recordFigure(
    `… ${OTHERS} clients of another address let in; ms for each, ${ABREAST} at a time`,
    `${OTHERS}; ${worst}`,
    "all",
  );
});
