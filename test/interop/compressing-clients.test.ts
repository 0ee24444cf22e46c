import { describe, expect, setDefaultTimeout } from "bun:test";
import { needs } from "../support/programs.ts";
import { Stack } from "../support/stack.ts";

/**
 * PROTOCOL.md, "Compression": client libraries that accept `client_no_context_takeover` and ignore it, each as Debian packages it. Tests
 * whose library is missing are skipped.
 */
setDefaultTimeout(60_000);

/** Asks for compression, sends 20 messages that are much alike, each behind the echo of the last, and prints how many came back. */
const TORNADO = `
import asyncio, sys
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect
async def main():
    ws = await websocket_connect(HTTPRequest(sys.argv[1]), compression_options={})
    echoed = 0
    for i in range(20):
        text = f"the same words again and again, number {i % 3}" * 5
        await ws.write_message(text)
        if await ws.read_message() != text:
            break
        echoed += 1
    print(echoed, ws.close_code)
    ws.close()
asyncio.run(main())
`;

/** The same. */
const MOJOLICIOUS = `
use Mojo::Base -strict; use Mojo::UserAgent; use Mojo::IOLoop;
my ($echoed, $text) = (0, ''); my $ua = Mojo::UserAgent->new;
$ua->websocket($ARGV[0] => {'Sec-WebSocket-Extensions' => 'permessage-deflate'} => sub {
  my ($ua, $tx) = @_;
  my $send = sub { $text = "the same words again and again, number @{[$echoed % 3]}" x 5; $tx->send($text) };
  $tx->on(message => sub { my ($tx, $got) = @_; $echoed++ if $got eq $text; $echoed < 20 ? $send->() : $tx->finish });
  $tx->on(finish => sub { my ($tx, $code) = @_; say "$echoed $code"; Mojo::IOLoop->stop });
  $send->();
});
Mojo::IOLoop->start;
`;

const LIBRARIES = [
  // By its path: another Python may come first, and has no packages of Debian's.
  { name: "Tornado", program: "/usr/bin/python3", flag: "-c", script: TORNADO, debian: "python3-tornado" },
  { name: "Mojolicious", program: "perl", flag: "-e", script: MOJOLICIOUS, debian: "libmojolicious-perl" },
] as const;

describe.each(LIBRARIES)("$name", (library) => {
  const { program, flag, script, debian } = library;
  const { test } = needs(debian);

  /** How many messages came back, of 20, and the close code that the client saw. */
  async function chat(stack: Stack, hub: string): Promise<string> {
    const url = `ws://127.0.0.1:${stack.port}/ws/client/hubs/${hub}`;
    const client = Bun.spawn([program, flag, script, url], { stdout: "pipe", stderr: "inherit" });
    const printed = await new Response(client.stdout).text();
    await client.exited;
    return printed.trim();
  }

  test("with compression for all but its hub: 20 of 20 messages there, and 1007 behind the first elsewhere", async () => {
    await using stack = await Stack.start({
      config: { websocket: { compression: true }, hubs: { plain: { compression: false } } },
    });
    expect(await chat(stack, "plain")).toMatch(/^20 /);
    expect(await chat(stack, "chat")).toBe("1 1007");
  });
});
