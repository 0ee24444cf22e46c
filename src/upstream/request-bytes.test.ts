import { expect, test } from "bun:test";
import { formatOpening, formatRequest } from "./request-bytes.ts";

const OPENING = formatOpening("host:7071", "hubwire/1.2.3");

test("forms head and body in one piece, values as UTF-8", () => {
  const body = new Uint8Array([0, 255, 13, 10]);
  const headers = [["X-ASRS-User-Id", "zoë"]] as const;
  const bytes = formatRequest({ method: "POST", target: "/a?b=c", headers, body }, OPENING);
  const head =
    "POST /a?b=c HTTP/1.1\r\nHost: host:7071\r\nUser-Agent: hubwire/1.2.3\r\nAccept-Encoding: identity\r\n" +
    "X-ASRS-User-Id: zoë\r\nContent-Length: 4\r\n\r\n";
  expect(bytes).toEqual(Buffer.concat([Buffer.from(head, "utf8"), body]));
});

test("says Content-Length: 0 where a POST has no body, and nothing where a GET has none", () => {
  const request = { target: "/", headers: [], body: new Uint8Array() };
  expect(formatRequest({ method: "POST", ...request }, "").toString()).toBe(
    "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
  );
  expect(formatRequest({ method: "GET", ...request }, "").toString()).toBe("GET / HTTP/1.1\r\n\r\n");
});

test.each(["a\r\nX-ASRS-User-Id: admin", "a\rb", "a\nb", "a\0b"])(
  "throws rather than write %j into a header",
  (value) => {
    const headers = [["X-Forwarded-For", value]] as const;
    expect(() => formatRequest({ method: "POST", target: "/", headers, body: new Uint8Array() }, "")).toThrow(
      "X-Forwarded-For",
    );
  },
);
