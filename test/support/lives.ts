import { KEYS } from "./gateway.ts";
import type { RecordedRequest } from "./raw-backend.ts";
import { connectionIdOf, Stack } from "./stack.ts";
import { secondsFromNow, signToken } from "./tokens.ts";

/** The requests that one connection caused: connect, a text message, a binary message, disconnect. */
export interface Life {
  readonly connectionId: string;
  readonly connect: RecordedRequest;
  readonly text: RecordedRequest;
  readonly binary: RecordedRequest;
  readonly disconnect: RecordedRequest;
}

/** What the client of the full life sends, and so what its headers must say. */
export const FULL = {
  subprotocols: "chat.v2, chat.v1",
  thumbprint: "0123456789ABCDEF0123456789ABCDEF01234567",
  query: "room=7&lang=de%20at",
  user: "alice",
  forwardedFor: "1.2.3.4, 5.6.7.8",
} as const;

export const TEXT_PAYLOAD = "grüß\u0000 dich, \u{1f600}\r\n";
export const BINARY_PAYLOAD = Buffer.from([0, 255, 13, 10, 128, 1, 2, 3]);

/** The claims of the full life's token, in their order. */
export function fullClaims(port: number, expiresAt: number): Record<string, unknown> {
  return { sub: FULL.user, role: "admin", aud: `http://127.0.0.1:${port}/ws/client/hubs/Chat`, exp: expiresAt };
}

/** Two lives through one gateway: `full` has every optional header, `bare` has none. */
export interface Lives {
  readonly stack: Stack;
  readonly expiresAt: number;
  readonly full: Life;
  readonly bare: Life;
}

/** Starts a stack whose template names hub, category and event, and lives both lives. */
export async function recordLives(): Promise<Lives> {
  const stack = await Stack.start({
    config: { trustedProxies: ["127.0.0.1"], clientCertHeader: "X-Client-Cert", hubs: { Chat: {} } },
    upstreams: (url) => [{ urlTemplate: `${url}/h/{hub}/{category}/{event}?code=c0de` }],
  });
  const expiresAt = secondsFromNow(600);
  const token = signToken(fullClaims(stack.port, expiresAt), { key: KEYS.primary });
  const full = await live(stack, {
    path: `/ws/client/hubs/cHAT?room=7&access_token=${token}&lang=de%20at`,
    lines: [
      `Sec-WebSocket-Protocol: ${FULL.subprotocols}`,
      `X-Client-Cert: ${FULL.thumbprint}`,
      "X-Forwarded-For: 1.2.3.4, 5.6.7.8",
    ],
  });
  const bare = await live(stack, { path: "/ws/client", localAddress: "127.0.0.9" });
  return { stack, expiresAt, full, bare };
}

async function live(
  stack: Stack,
  options: { path: string; lines?: readonly string[]; localAddress?: string },
): Promise<Life> {
  // The full life's token names the user already; only the bare one needs the answer to do it.
  stack.backend.onConnect = (exchange) =>
    exchange.request.header("X-ASRS-User-Id") === ""
      ? exchange.reply(200, ["X-ASRS-User-Id: bob"])
      : exchange.reply(204);
  const client = await stack.open(options);
  const connect = await stack.backend.next("connect");
  client.text(TEXT_PAYLOAD);
  const text = await stack.backend.next("message");
  await client.nextMessage();
  client.binary(BINARY_PAYLOAD);
  const binary = await stack.backend.next("message");
  await client.nextMessage();
  client.close(1000);
  const disconnect = await stack.backend.next("disconnect");
  return { connectionId: connectionIdOf(connect), connect, text, binary, disconnect };
}
