import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { KEYS } from "../support/gateway.ts";
import { acceptAs } from "../support/raw-backend.ts";
import { connectionIdOf, jsonError, ofConnection, Stack } from "../support/stack.ts";
import { secondsFromNow, signToken } from "../support/tokens.ts";

/** The lines of the seed's section "Connect" that speak of the response: one test each, named by that line. */
setDefaultTimeout(60_000);

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start();
});
afterAll(async () => {
  await stack.stop();
});

const OFFER = "Sec-WebSocket-Protocol: chat.v2, chat.v1";

describe("Connect: Response Headers", () => {
  test("`Sec-WebSocket-Protocol?`: `{subprotocol}`", async () => {
    stack.backend.onConnect = acceptAs("alice", ["Sec-WebSocket-Protocol: chat.v1"]);
    const client = await stack.request({ lines: [OFFER] });
    const head = await client.upgraded();
    expect(head.all("sec-websocket-protocol")).toEqual(["chat.v1"]);
  });

  test("The `connect` event forwards the subprotocol and authentication information to Upstream from the client.", async () => {
    stack.backend.onConnect = acceptAs("alice");
    const aud = `http://127.0.0.1:${stack.port}/client/hubs/told`;
    const exp = secondsFromNow(600);
    const token = signToken({ sub: "carol", aud, exp }, { key: KEYS.primary });
    await stack.open({ path: "/client/hubs/told", lines: [OFFER, `Authorization: Bearer ${token}`] });
    const connect = await stack.backend.next("connect", (request) => request.target.includes("/told/"));
    expect(connect.header("Sec-WebSocket-Protocol")).toBe("chat.v2, chat.v1");
    expect(connect.header("X-ASRS-User-Id")).toBe("carol");
    expect(connect.header("X-ASRS-User-Claims")).toBe(`sub: carol, aud: ${aud}, exp: ${exp}`);
    expect(connect.head.bytes.includes(token)).toBe(false);
  });

  test.each([
    [200, 101],
    [204, 101],
    [400, 400],
    [403, 403],
    [500, 502],
  ])(
    "The Azure SignalR Service uses the status code to determine if the request will be upgraded to WebSocket protocol. (%d gives %d)",
    async (upstreamStatus, clientStatus) => {
      stack.backend.onConnect = (exchange) => exchange.reply(upstreamStatus, ["X-ASRS-User-Id: alice"]);
      const client = await stack.request();
      expect((await client.answer()).status).toBe(clientStatus);
      client.destroy();
    },
  );

  test("If the request contains the `Sec-WebSocket-Protocol` header with one or multiple supported sub-protocols. The server should return one sub-protocol it supports.", async () => {
    for (const [offered, chosen] of [
      ["only", "only"],
      ["first, second, third", "third"],
    ]) {
      stack.backend.onConnect = acceptAs("alice", [`Sec-WebSocket-Protocol: ${chosen}`]);
      const client = await stack.request({ lines: [`Sec-WebSocket-Protocol: ${offered}`] });
      expect((await client.upgraded()).header("Sec-WebSocket-Protocol")).toBe(chosen);
    }
    stack.backend.onConnect = acceptAs("alice", ["Sec-WebSocket-Protocol: first, second"]);
    const two = await (await stack.request({ lines: ["Sec-WebSocket-Protocol: first, second"] })).answer();
    expect(two.status).toBe(502);
    jsonError(two.body);
  });

  test("If the server doesn't want to use any subprotocols, it should **not** send the `Sec-WebSocket-Protocol` header.", async () => {
    stack.backend.onConnect = acceptAs("alice");
    const client = await stack.request({ lines: [OFFER] });
    const head = await client.upgraded();
    expect(head.all("sec-websocket-protocol")).toEqual([]);
    client.text("hello");
    expect(await client.nextText()).toBe("hello");
  });

  test("Sending a blank header is invalid", async () => {
    for (const blank of ["Sec-WebSocket-Protocol:", "Sec-WebSocket-Protocol:  "]) {
      stack.backend.onConnect = acceptAs("alice", [blank]);
      const client = await stack.request({ path: "/ws/client/hubs/blank", lines: [OFFER] });
      const answer = await client.answer();
      expect(answer.status).toBe(502);
      jsonError(answer.body);
      await stack.backend.next("disconnect", (request) => request.target.includes("/blank/"));
    }
  });

  test("`X-ASRS-User-Id?`: `{authed user id}`", async () => {
    stack.backend.onConnect = acceptAs("dave");
    const client = await stack.open({ path: "/ws/client/hubs/authed" });
    client.text("who am I");
    const message = await stack.backend.next("message", (request) => request.target.includes("/authed/"));
    expect(message.header("X-ASRS-User-Id")).toBe("dave");
  });

  test("As the service allows anonymous connections, it is the `connect` event's responsibility to tell the service the user id of the client connection.", async () => {
    stack.backend.onConnect = acceptAs("erin");
    const client = await stack.open({ path: "/ws/client/hubs/anonymous" });
    const connect = await stack.backend.next("connect", (request) => request.target.includes("/anonymous/"));
    expect(connect.header("X-ASRS-User-Id")).toBe("");
    client.close();
    const disconnect = await stack.backend.next("disconnect", ofConnection(connectionIdOf(connect)));
    expect(disconnect.header("X-ASRS-User-Id")).toBe("erin");
  });

  test("The Service will read the user id from the response header `X-ASRS-User-Id` if it exists.", async () => {
    const aud = `http://127.0.0.1:${stack.port}/client/hubs/both`;
    const token = signToken({ sub: "from-token", aud, exp: secondsFromNow(600) }, { key: KEYS.primary });
    for (const [lines, user] of [
      [["X-ASRS-User-Id: from-answer"], "from-answer"],
      [[], "from-token"],
    ] as const) {
      stack.backend.onConnect = (exchange) => exchange.reply(200, lines);
      const client = await stack.open({ path: `/client/hubs/both?access_token=${token}` });
      client.text("who am I");
      const message = await stack.backend.next("message", (request) => request.target.includes("/both/"));
      expect(message.header("X-ASRS-User-Id")).toBe(user);
    }
  });

  test("The connection will be dropped if user id cannot be read from the request claims nor the `connect` event's response header.", async () => {
    stack.backend.onConnect = (exchange) => exchange.reply(200);
    const client = await stack.request({ path: "/ws/client/hubs/nobody" });
    const answer = await client.answer();
    expect(answer.status).toBe(401);
    jsonError(answer.body);
    await stack.backend.next("disconnect", (request) => request.target.includes("/nobody/"));
  });

  test("`X-ASRS-Connection-Group?`: `{group}`: add this connection to one or multiple groups", async () => {
    for (const [hub, lines, groups] of [
      ["groups1", ["X-ASRS-Connection-Group: lobby"], ["lobby"]],
      ["groups2", ["X-ASRS-Connection-Group: lobby, red team ,blue"], ["lobby", "red team", "blue"]],
      ["groups3", ["X-ASRS-Connection-Group: lobby", "X-ASRS-Connection-Group: blue"], ["lobby", "blue"]],
    ] as const) {
      stack.backend.onConnect = acceptAs("alice", lines);
      await stack.open({ path: `/ws/client/hubs/${hub}` });
      const connect = await stack.backend.next("connect", (request) => request.target.includes(`/${hub}/`));
      for (const group of groups) expect(stack.gateway.groupMembers(hub, group)).toEqual([connectionIdOf(connect)]);
    }
  });
});

describe("Connect: Response Status Codes", () => {
  test("`2xx`: Success, the WebSocket connection is going to be established.", async () => {
    for (const status of [200, 201, 204, 206, 250, 299]) {
      stack.backend.onConnect = (exchange) => exchange.reply(status, ["X-ASRS-User-Id: alice"]);
      const client = await stack.open();
      client.text("established");
      expect(await client.nextText()).toBe("established");
    }
  });

  test("`4xx`: Error, the response from Upstream will be returned as the response for the client request.", async () => {
    for (const status of [400, 401, 404, 418, 451, 499]) {
      stack.backend.onConnect = (exchange) =>
        exchange.reply(status, ["Content-Type: text/x-told", "X-Why: because"], `no: ${status}`);
      const answer = await (await stack.request()).answer();
      expect(answer.status).toBe(status);
      expect(answer.body.toString()).toBe(`no: ${status}`);
      expect(answer.head.all("content-type")).toEqual(["text/x-told"]);
      expect(answer.head.all("x-why")).toEqual(["because"]);
    }
  });
});
