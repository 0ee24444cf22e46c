/**
 * Makes sure that no other process listens at a port, before it is opened so that several listeners can share it.
 *
 * Why:    a listener with TLS is opened like that, since a second one with the renewed certificate may join it. Two gateways that
 *         were given one port by mistake would otherwise share its clients without an error.
 * Errors: throws as opening the listener does, with `EADDRINUSE` where the port is taken.
 */
export function assertPortIsFree({ host, port }: { readonly host: string; readonly port: number }): void {
  // The system chooses a free one.
  if (port === 0) return;
  Bun.serve({ hostname: host, port, reusePort: false, fetch: () => new Response(null, { status: 503 }) }).stop(true);
}
