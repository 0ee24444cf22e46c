import { describe, expect, test } from "bun:test";
import { parseConnectionString } from "./connection-string.ts";

const KEY = "c2VjcmV0LWtleQ==";

describe("parseConnectionString", () => {
  for (const text of [
    `Endpoint=http://127.0.0.1:8080;AccessKey=${KEY};Version=1.0;`,
    `AccessKey=${KEY};Endpoint=http://127.0.0.1:8080/`,
    ` endpoint = http://127.0.0.1:8080 ; ACCESSKEY = ${KEY} ;; version = 1.0 `,
    `Endpoint=http://127.0.0.1;Port=8080;AccessKey=${KEY}`,
    `Port=8080;Endpoint=http://127.0.0.1:9999;AccessKey=${KEY}`,
  ]) {
    test(`reads ${text.replace(KEY, "…")}`, () => {
      expect(parseConnectionString(text)).toEqual({ endpoint: "http://127.0.0.1:8080", accessKey: KEY });
    });
  }

  test("writes an endpoint as origins are written, so that paths can follow", () => {
    for (const [endpoint, origin] of [
      ["https://Chat.Example", "https://chat.example"],
      ["https://chat.example:443/", "https://chat.example"],
      ["http://[::1]:8080", "http://[::1]:8080"],
    ]) {
      expect(parseConnectionString(`Endpoint=${endpoint};AccessKey=${KEY}`)).toEqual({
        endpoint: origin ?? "",
        accessKey: KEY,
      });
    }
  });

  for (const [text, fault] of [
    ["", "has no AccessKey=…"],
    [`Endpoint=http://a;AccessKey=`, "has no AccessKey=…"],
    [`AccessKey=${KEY}`, "has no Endpoint=http://… or https://…"],
    [`Endpoint=a.example;AccessKey=${KEY}`, "has no Endpoint=http://… or https://…"],
    [`Endpoint=ws://a.example;AccessKey=${KEY}`, "has no Endpoint=http://… or https://…"],
    [`Endpoint=http://a/b;AccessKey=${KEY}`, "has an Endpoint with more than scheme, host and port"],
    [`Endpoint=http://a?b;AccessKey=${KEY}`, "has an Endpoint with more than scheme, host and port"],
    [`Endpoint=http://${KEY}@a;AccessKey=${KEY}`, "has an Endpoint with more than scheme, host and port"],
    [`Endpoint=http://a;AccessKey=${KEY};Version=2.0`, "has a Version other than 1.0"],
    [`Endpoint=http://a;AccessKey=${KEY};Port=0`, "has a Port that is not 1 to 65535"],
    [`Endpoint=http://a;AccessKey=${KEY};Port=65536`, "has a Port that is not 1 to 65535"],
    [`Endpoint=http://a;AccessKey=${KEY};Port=`, "has a Port that is not 1 to 65535"],
    [`Endpoint=http://a;AccessKey=${KEY};accessKey=${KEY}`, "has the name of field 3 twice"],
    [`Endpoint=http://a;AcessKey=${KEY}`, "has an unknown name in field 2: use Endpoint, AccessKey, Version, Port"],
    [`Endpoint=http://a;${KEY}`, "has an unknown name in field 2: use Endpoint, AccessKey, Version, Port"],
  ] as const) {
    test(`refuses ${text.replaceAll(KEY, "…") || "an empty one"} with a sentence without the key`, () => {
      expect(parseConnectionString(text)).toEqual({ fault });
      expect(fault).not.toContain(KEY);
    });
  }

  test("takes the ends of the range of ports", () => {
    for (const port of ["1", "65535"]) {
      expect(parseConnectionString(`Endpoint=http://a;Port=${port};AccessKey=k`)).toEqual({
        endpoint: `http://a:${port}`,
        accessKey: "k",
      });
    }
  });
});
