import { describe, expect, test } from "bun:test";
import { faultsOf } from "../../test/support/config-faults.ts";
import { parseConfig } from "./load.ts";

const patternFaults = (...patterns: readonly string[]) =>
  faultsOf({ paths: patterns.map((pattern) => ({ pattern, hub: "ocpp" })) });

describe("a pattern of paths", () => {
  test.each([
    "/",
    "/ocpp/{id}",
    "/{a}/{b_2}",
    "/socket.io",
    "/wsx/{x}",
    "/clients",
    "/API/{x}",
    "/caf%C3%A9",
    "/a%2fb",
    "/a'b|c",
    "/~!$&()+,;=@a:b/-._",
  ])("may be %j", (pattern) => expect(patternFaults(pattern)).toEqual([]));

  test.each([
    ["", 'must begin with "/"'],
    ["ocpp/{id}", 'must begin with "/"'],
    ["https://a.example/ocpp", 'must begin with "/"'],
    ["/ocpp?x=1", "leave out the query"],
    ["/ocpp#x", "leave out the query and the fragment"],
    ["/ocpp/*", '"*" is no wildcard'],
    ["/ocpp/", 'leave out the "/" at the end'],
    ["//", 'leave out the "/" at the end'],
    ["//ocpp", 'must not have an empty segment ("//")'],
    ["/ocpp//{id}", 'must not have an empty segment ("//")'],
    ["/ocpp/:id", "makes no parameter"],
    ["/ocpp/{}", "a parameter must be a whole segment"],
    ["/ocpp/{id", "a parameter must be a whole segment"],
    ["/ocpp/id}", "a parameter must be a whole segment"],
    ["/ocpp/cp-{id}", "a parameter must be a whole segment"],
    ["/ocpp/{1}", "a parameter must be a whole segment"],
    ["/ocpp/{a-b}", "a parameter must be a whole segment"],
    ["/ocpp/{{id}}", "a parameter must be a whole segment"],
    ["/{id}/{id}", "has a parameter twice"],
    ["/a%zz", 'has a "%" without two hexadecimal digits'],
    ["/a%4", 'has a "%" without two hexadecimal digits'],
    ["/café", "is not a path in the form of URLs"],
    ["/a b", "is not a path in the form of URLs"],
    ["/a\tb", "is not a path in the form of URLs"],
    ["/a\\b", "is not a path in the form of URLs"],
    ['/a"b', "is not a path in the form of URLs"],
    ["/a/../b", "is not a path in the form of URLs"],
    ["/a/./b", "is not a path in the form of URLs"],
    ["/a/%2e%2E", "is not a path in the form of URLs"],
    ["/a\u0000", "is not a path in the form of URLs"],
  ])("may not be %j: %s", (pattern, sentence) => {
    const faults = patternFaults(pattern);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toStartWith("paths[0].pattern: ");
    expect(faults[0]).toContain(sentence);
  });

  test.each(["/ws", "/ws/x", "/client", "/client/hubs/{hub}", "/api", "/api/health", "/.well-known", "/.well-known/x"])(
    "may not be under a path that hubwire serves itself: %s",
    (pattern) =>
      expect(patternFaults(pattern)).toEqual([
        "paths[0].pattern: must not be under /ws, /client, /api, /.well-known: hubwire serves these itself",
      ]),
  );

  test.each([
    ["/a/{x}", "/a/{y}"],
    ["/a/{x}", "/a/b"],
    ["/{x}/{y}", "/a/{x}"],
    ["/a", "/a"],
    ["/", "/"],
  ])("may not come after one that matches all of its paths: %s, %s", (earlier, later) => {
    expect(patternFaults("/other", earlier, later)).toEqual([
      "paths[2].pattern: never matches: paths[1] matches the same paths and comes first. Put this item before that one, or remove it",
    ]);
    if (earlier !== later && earlier !== "/a/{x}") expect(patternFaults(later, earlier)).toEqual([]);
  });
});

describe("an item of paths", () => {
  test("needs a pattern and a hub, and nothing else", () => {
    expect(faultsOf({ paths: [{}, { pattern: "/a", hub: "ocpp", upstream: "x" }] })).toEqual([
      "paths[0].pattern: is required",
      "paths[0].hub: is required",
      "paths[1].upstream: no such key",
    ]);
  });

  test.each(["", "*", "9", "{id}", "a b"])("names one hub, which %j is not", (hub) =>
    expect(faultsOf({ paths: [{ pattern: "/a", hub }] })).toEqual([
      "paths[0].hub: is not a valid hub name: use _default, or a letter followed by at most 127 of A-Z a-z 0-9 _ . , [ ]",
    ]),
  );

  test("may be one of 1000, and no more", () => {
    const paths = Array.from({ length: 1001 }, (_, index) => ({ pattern: `/p${index}/{x}`, hub: "ocpp" }));
    expect(faultsOf({ paths: paths.slice(1) })).toEqual([]);
    expect(faultsOf({ paths })).toEqual(["paths: must have at most 1000 items"]);
  });

  test("spells its hub for events, unless hubs or a hubPattern does, and all must spell it alike", () => {
    const paths = [{ pattern: "/ocpp/{id}", hub: "OCPP" }];
    expect(parseConfig({ paths }).hubSpellings).toEqual({ ocpp: "OCPP" });
    expect(faultsOf({ paths, hubs: { ocpp: {} } })).toEqual([
      "paths[0].hub: writes a hub in another case than hubs.ocpp: events carry one spelling of a hub, so write it in one way everywhere",
    ]);
    expect(faultsOf({ paths, upstreams: [{ urlTemplate: "http://h/", hubPattern: "ocpp" }] })).toHaveLength(1);
    expect(faultsOf({ paths, hubs: { OCPP: {} } })).toEqual([]);
  });
});
