import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type PathForm, parseRestPath } from "../protocol/rest-path.ts";
import { isSend, type Operation, pathsOf, ROUTES, type Routed, routePath } from "./routes.ts";

const PREFIXES = { ws: "/ws/api", plain: "/api", v1: "/ws/api/v1" } as const;
const FORMS: readonly PathForm[] = ["ws", "plain", "v1"];

/** The path that a request would have, routed. */
function route(path: string, method = "POST"): Routed {
  const parsed = parseRestPath(path, "");
  if (parsed === null) throw new Error(`${path} is not a path of the REST API`);
  return routePath(parsed, method);
}

function operationOf(path: string, method = "POST"): Operation | "404" | "405" {
  const routed = route(path, method);
  if (routed.kind === "route") return routed.operation;
  return routed.kind === "method" ? "405" : "404";
}

/** The operations of PROTOCOL.md, "REST API": method, path, operation. */
const PUBLISHED: readonly (readonly [methods: string, path: string, operation: Operation])[] = [
  ["POST", "messages", "sendToHub"],
  ["POST", "users/{user}/messages", "sendToUser"],
  ["POST", "connections/{connection}/messages", "sendToConnection"],
  ["POST", "groups/{group}/messages", "sendToGroup"],
  ["PUT", "groups/{group}/connections/{connection}", "addConnectionToGroup"],
  ["PUT", "connections/{connection}/groups/{group}", "addConnectionToGroup"],
  ["DELETE", "groups/{group}/connections/{connection}", "removeConnectionFromGroup"],
  ["DELETE", "connections/{connection}/groups/{group}", "removeConnectionFromGroup"],
  ["PUT", "users/{user}/groups/{group}", "addUserToGroup"],
  ["PUT", "groups/{group}/users/{user}", "addUserToGroup"],
  ["DELETE", "users/{user}/groups/{group}", "removeUserFromGroup"],
  ["DELETE", "groups/{group}/users/{user}", "removeUserFromGroup"],
  ["DELETE", "users/{user}/groups", "removeUserFromAllGroups"],
  ["HEAD GET", "users/{user}/groups/{group}", "isUserInGroup"],
  ["HEAD GET", "groups/{group}/users/{user}", "isUserInGroup"],
  ["DELETE", "connections/{connection}", "closeConnection"],
  ["HEAD GET", "connections/{connection}", "connectionExists"],
  ["HEAD GET", "users/{user}", "userExists"],
  ["HEAD GET", "groups/{group}", "groupExists"],
];

const NAMES = { user: "ann", group: "red", connection: "c1" } as const;

function fill(template: string): string {
  return template.replace(/\{(\w+)\}/g, (_whole, kind: keyof typeof NAMES) => NAMES[kind]);
}

describe.each(PUBLISHED)("%s %s", (methods, template, operation) => {
  const inV1 = template.replace(/\/?messages$/, "");

  test.each([
    ...[`/ws/api/${template}`, `/ws/api/hubs/chat/${template}`, `/api/${template}`],
    ...[`/ws/api/v1/${inV1}`, `/ws/api/v1/hubs/chat/${inV1}`],
  ])("is published under %s, with and without a trailing slash", (path) => {
    for (const method of methods.split(" ")) {
      for (const spelling of [fill(path).replace(/\/$/, ""), `${fill(path).replace(/\/$/, "")}/`]) {
        const routed = route(spelling, method);
        expect(routed).toMatchObject({ kind: "route", operation });
        const kinds = [...template.matchAll(/\{(\w+)\}/g)].map(([, kind = ""]) => kind);
        expect(routed.kind === "route" && Object.fromEntries(routed.names)).toEqual(
          Object.fromEntries(kinds.map((kind) => [kind, Reflect.get(NAMES, kind)])),
        );
      }
    }
  });
});

test("the table holds every operation of PROTOCOL.md once, and no other", () => {
  const fromSpec = PUBLISHED.flatMap(([methods, path, operation]) =>
    methods.split(" ").map((method) => `${method} ${path} ${operation}`),
  );
  const fromTable = ROUTES.flatMap(({ operation, methods, paths }) =>
    methods.flatMap((method) => paths.map((path) => `${method} ${path} ${operation}`)),
  );
  expect(fromTable.sort()).toEqual(fromSpec.sort());
});

describe("a path outside the REST API", () => {
  test.each([
    "/ws/api",
    "/ws/api/hubs/chat",
    "/ws/api/hubs",
    "/api",
    "/api/hubs/chat/messages",
    "/api/hubs/chat/:send",
    "/ws/api/v1/messages",
    "/ws/api/v1/users/ann/messages",
    "/ws/api/v1/groups/red/messages",
    "/ws/api/users",
    "/ws/api/messages/red",
    "/ws/api/Messages",
    "/ws/api/groups/red/connections/c1/messages",
    "/ws/api/users/ann/connections/c1",
    "/ws/api/hubs/chat/hubs/chat/messages",
  ])("%s is 404", (path) => {
    expect(operationOf(path)).toBe("404");
  });

  test("an empty part counts: only one slash at the end is left out", () => {
    expect(operationOf("/ws/api/messages/")).toBe("sendToHub");
    expect(operationOf("/ws/api/v1/")).toBe("sendToHub");
    for (const path of ["/ws/api/messages//", "/ws/api//messages", "/ws/api/v1//", "/ws/api/v1/hubs/chat//"]) {
      expect(operationOf(path)).toBe("404");
    }
  });

  test("a malformed escape in the place of a word is 404, and above all no broadcast", () => {
    for (const path of ["/ws/api/v1/%zz", "/ws/api/v1/hubs/chat/%", "/ws/api/%E0%A4", "/ws/api/users/ann/%zz"]) {
      expect(operationOf(path)).toBe("404");
    }
  });

  test("parts are split before they are decoded: an escaped slash makes no path", () => {
    expect(operationOf("/ws/api/users%2Fann%2Fmessages")).toBe("404");
    expect(operationOf("/ws/api/users%2F*%2Fmessages")).toBe("404");
    expect(operationOf("/ws/api/users/ann/groups%2F*", "PUT")).toBe("404");
    expect(operationOf("/ws/api/v1/users%2Fann")).toBe("404");
  });

  test("a word may be escaped like anything else", () => {
    expect(operationOf("/ws/api/%6dessages")).toBe("sendToHub");
  });
});

describe("names", () => {
  test("are decoded once and keep what looks like a path, a template or a word", () => {
    for (const name of ["a/b", "{group}", "*", "messages", "%2F", "größe", "a b", '"]', "hubs"]) {
      const routed = route(`/ws/api/groups/${encodeURIComponent(name)}/messages`);
      expect(routed).toMatchObject({ kind: "route", operation: "sendToGroup" });
      expect(routed.kind === "route" && routed.names.get("group")).toBe(name);
    }
  });

  test("a malformed one is null, an empty one empty: the path is known, the name is refused later", () => {
    const malformed = route("/ws/api/users/%zz/messages");
    expect(malformed.kind === "route" && malformed.names.get("user")).toBeNull();
    const empty = route("/ws/api/users//messages");
    expect(empty.kind === "route" && empty.names.get("user")).toBe("");
  });
});

describe("a method that the path does not take", () => {
  test.each([
    ["/ws/api/messages", "POST"],
    ["/ws/api/users/ann", "GET, HEAD"],
    ["/ws/api/v1/users/ann", "POST, GET, HEAD"],
    ["/ws/api/connections/c1", "DELETE, GET, HEAD"],
    ["/ws/api/v1/connections/c1", "POST, DELETE, GET, HEAD"],
    ["/ws/api/users/ann/groups", "DELETE"],
    ["/ws/api/users/ann/groups/red", "PUT, DELETE, GET, HEAD"],
    ["/ws/api/groups/red/users/ann", "PUT, DELETE, GET, HEAD"],
    ["/ws/api/groups/red/connections/c1", "PUT, DELETE"],
  ])("on %s is told: %s", (path, allow) => {
    expect(route(path, "PATCH")).toEqual({ kind: "method", allow });
    for (const method of ["OPTIONS", "post", "get", "", "constructor", "__proto__"]) {
      expect(route(path, method)).toEqual({ kind: "method", allow });
    }
  });
});

test("exactly the operations with a body are sends", () => {
  const sends = ROUTES.filter(({ operation }) => isSend(operation)).map(({ operation }) => operation);
  expect(sends).toEqual(["sendToHub", "sendToUser", "sendToConnection", "sendToGroup"]);
});

test("a published path is found with exactly its names, with any characters in them", () => {
  const name = fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }).filter((text) => text.isWellFormed());
  fc.assert(
    fc.property(
      fc.constantFrom(...ROUTES),
      fc.constantFrom(...FORMS),
      fc.nat(),
      name,
      name,
      (found, form, pick, a, b) => {
        const templates = pathsOf(found, form);
        const template = templates[pick % templates.length] ?? "";
        const values = [a, b];
        const path = template.replace(/\{\w+\}/g, () => encodeURIComponent(values.shift() ?? ""));
        const routed = route(`${PREFIXES[form]}/${path}`, found.methods[0]);
        expect(routed).toMatchObject({ kind: "route", operation: found.operation });
        const count = template.split("{").length - 1;
        expect(routed.kind === "route" && [...routed.names.values()]).toEqual([a, b].slice(0, count));
      },
    ),
  );
});

test("routing any path throws nothing and finds a route only with as many parts as the route has", () => {
  const part = fc.oneof(
    fc.constantFrom("messages", "users", "groups", "connections", "hubs", "chat", "", "*", "%zz", "%2F", "{user}"),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.constantFrom(...FORMS), fc.array(part, { maxLength: 7 }), fc.string(), (form, parts, query) => {
      const path = parseRestPath([PREFIXES[form], ...parts].join("/"), query);
      if (path === null) return;
      const routed = routePath(path, "POST");
      if (routed.kind !== "route") return;
      const lengths = ROUTES.flatMap((found) => pathsOf(found, path.form)).map((found) =>
        found === "" ? 0 : found.split("/").length,
      );
      expect(lengths).toContain(path.parts.length);
      expect(routed.names.size).toBe(Math.floor(path.parts.length / 2));
    }),
  );
});
