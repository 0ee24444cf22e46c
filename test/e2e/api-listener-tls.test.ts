import { expect, setDefaultTimeout } from "bun:test";
import { once } from "node:events";
import { createServer } from "node:net";
import { type Certificate, makeCertificates } from "../support/certificates.ts";
import { startTestGateway } from "../support/gateway.ts";
import { needs } from "../support/programs.ts";
import { unusedPort } from "../support/raw-backend.ts";
import { target } from "../support/rest-operations.ts";
import { Stack } from "../support/stack.ts";

const { afterAll, describe, test, setup } = needs("openssl");

/** `listen.api` with `listen.tls`, over real TLS; and ports that another process has. */
setDefaultTimeout(60_000);

const made = setup(makeCertificates);
afterAll(() => made.remove());

function startStack(clientCert: "none" | "optional" | "require"): Promise<Stack> {
  const ca = clientCert === "none" ? {} : { clientCaFile: made.authority.certFile };
  const tls = { certFile: made.server.certFile, keyFile: made.server.keyFile, clientCert, ...ca };
  return Stack.start({ config: { listen: { host: "127.0.0.1", port: 0, tls, api: { port: 0 } } } });
}

/** The status of a call, or `cut` where the TLS layer ended the connection. */
async function callOver(port: number, path: string, client?: Certificate): Promise<number | "cut"> {
  const own = client === undefined ? {} : { cert: client.cert, key: client.key };
  try {
    const url = `https://localhost:${port}${path}`;
    return (await fetch(url, { keepalive: false, tls: { ca: made.authority.cert, ...own } })).status;
  } catch {
    return "cut";
  }
}

describe.each(["none", "optional", "require"] as const)("the API's listener with clientCert: %s", (clientCert) => {
  // To GET, 405 where the API is and 404 where it is not.
  const path = target("broadcast", "chat", {});

  test("speaks TLS, and wants a certificate of callers only where it is required of clients", async () => {
    await using stack = await startStack(clientCert);
    const { apiPort } = stack.gateway;
    const unknown = clientCert === "require" ? "cut" : 405;
    expect(await callOver(apiPort, path, made.client)).toBe(405);
    expect(await callOver(apiPort, path)).toBe(unknown);
    expect(await callOver(apiPort, path, made.foreignClient)).toBe(unknown);
    expect(await callOver(apiPort, "/api/health", made.client)).toBe(200);
    expect(await callOver(apiPort, "/ws/client", made.client)).toBe(404);
    const plain = await fetch(`http://127.0.0.1:${apiPort}${path}`, { keepalive: false }).then(
      ({ status }) => status,
      () => "cut",
    );
    expect(plain).not.toBe(405);
  });

  test("clients and their thumbprints are as before, and the API is not at their listener", async () => {
    await using stack = await startStack(clientCert);
    const tls = { ca: made.authority.cert, servername: "localhost", cert: made.client.cert, key: made.client.key };
    const { client, connect } = await stack.connect({ tls });
    const thumbprint = clientCert === "none" ? undefined : made.client.thumbprint;
    expect(connect.header("X-ASRS-Client-Cert-Thumbprint")).toBe(thumbprint);
    expect(await callOver(stack.port, path, made.client)).toBe(404);
    expect(await callOver(stack.port, "/api/health", made.client)).toBe(200);
    client.text("hello");
    expect(await client.nextText()).toBe("hello");
  });
});

describe("a port that is taken", () => {
  test.each(["port", "api.port"] as const)(
    "as listen.%s ends the start, and the other port is free again",
    async (which) => {
      const [taken, free] = [await unusedPort(), await unusedPort()];
      const other = createServer().listen(taken, "127.0.0.1");
      await once(other, "listening");
      const ports = which === "port" ? { port: taken, api: { port: free } } : { port: free, api: { port: taken } };
      try {
        const fault = await startTestGateway({ listen: { host: "127.0.0.1", ...ports } }).then(() => "started", String);
        expect(fault).toContain(String(taken));
      } finally {
        other.close();
        await once(other, "close");
      }
      await using gateway = await startTestGateway({ listen: { host: "127.0.0.1", ...ports } });
      expect([gateway.port, gateway.apiPort].toSorted()).toEqual([taken, free].toSorted());
    },
  );
});
