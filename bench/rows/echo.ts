import { median, perSecond, type Row, times, withSpread } from "../tools.ts";

const CLIENTS = 64;
const BYTES = 64;

/** A message's whole way, against one bare HTTP hop in C, by the same generator and to the same backend. */
export const echo: Row = {
  name: "echo",
  what: `message → POST → reply, ${CLIENTS} connections, ${BYTES} B, against nginx proxy_pass`,
  target: "≥ 1.00 ×",
  run: async (tools) => {
    const backend = await tools.backend();
    const proxy = await tools.proxy(backend);
    const gateway = await tools.gateway(backend);
    const { seconds, pairs } = tools.effort;
    const ours = () => tools.load("echo", gateway.port, "/ws/client/hubs/chat", CLIENTS, seconds, BYTES);
    const theirs = () => tools.load("http", proxy, "/chat/api/message", CLIENTS, seconds, BYTES);
    await ours();
    const rates: [number, number][] = [];
    let lost = 0;
    for (let pair = 0; pair < pairs; pair++) {
      const [one, other] = [await ours(), await theirs()];
      lost += one.failed + other.failed;
      rates.push([one.messages / one.seconds, other.messages / other.seconds]);
    }
    const ratios = rates.map(([one, other]) => one / other);
    return {
      ours: perSecond(median(rates.map(([one]) => one))),
      theirs: perSecond(median(rates.map(([, other]) => other))),
      ratio: withSpread(ratios, times),
      lost: String(lost),
      isMet: median(ratios) >= 1,
    };
  },
};
