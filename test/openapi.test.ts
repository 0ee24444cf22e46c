import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { HEALTH_PATH } from "../src/api/health.ts";
import { type Operation, pathsOf, ROUTES } from "../src/api/routes.ts";
import { ERROR_CODES, type ErrorCode } from "../src/protocol/error-codes.ts";
import { NAME_RULE } from "../src/protocol/names.ts";
import { REPOSITORY } from "./support/command.ts";

type Node = Readonly<Record<string, unknown>>;

const DOCUMENT = node(parse(readFileSync(join(REPOSITORY, "docs", "openapi.yaml"), "utf8")));
const PATHS = node(DOCUMENT["paths"]);
const METHODS: readonly string[] = ["get", "head", "put", "post", "delete", "options", "patch", "trace"];

/** What the API may answer, beyond 404 for a path and 405 for a method that the document does not have. */
const EVERYWHERE = [400, 401, 500];
const SEND = [202, 408, 413, 415, 503];
const STATUSES: Readonly<Record<Operation, readonly number[]>> = {
  sendToHub: SEND,
  sendToUser: SEND,
  sendToConnection: SEND,
  sendToGroup: SEND,
  addConnectionToGroup: [200, 404, 409, 503],
  removeConnectionFromGroup: [200, 404, 503],
  addUserToGroup: [202, 409, 503],
  removeUserFromGroup: [202, 503],
  removeUserFromAllGroups: [200, 503],
  isUserInGroup: [200, 404, 503],
  closeConnection: [202, 503],
  connectionExists: [200, 404, 503],
  userExists: [200, 404, 503],
  groupExists: [200, 404, 503],
};

const QUERY: Readonly<Partial<Record<Operation, readonly string[]>>> = {
  sendToHub: ["excluded"],
  sendToGroup: ["excluded"],
  addUserToGroup: ["ttl"],
  closeConnection: ["reason"],
};

/** The families of paths: where each begins, and the place of its hub. */
const FAMILIES = [
  { form: "ws", prefix: "/ws/api/hubs/{hub}", hub: "path" },
  { form: "ws", prefix: "/ws/api", hub: null },
  { form: "plain", prefix: "/api", hub: "query" },
  { form: "v1", prefix: "/ws/api/v1/hubs/{hub}", hub: "path" },
  { form: "v1", prefix: "/ws/api/v1", hub: null },
] as const;

/** One operation under one path, as the document has it. */
interface Written {
  readonly operation: string;
  readonly method: string;
  readonly path: string;
  readonly node: Node;
  readonly parameters: readonly Node[];
}

function node(value: unknown): Node {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error(`no map: ${value}`);
  return value as Node;
}

function list(value: unknown): readonly unknown[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new Error(`no list: ${value}`);
  return value;
}

/** Follows a `$ref` into the document. */
function resolve(value: unknown): Node {
  const { $ref } = node(value);
  if (typeof $ref !== "string") return node(value);
  const target = $ref
    .replace(/^#\//, "")
    .split("/")
    .reduce<Node>((at, key) => node(at[key]), DOCUMENT);
  return resolve(target);
}

function listOperations(): Written[] {
  return Object.entries(PATHS).flatMap(([path, item]) =>
    Object.entries(node(item))
      .filter(([key]) => METHODS.includes(key))
      .map(([method, operation]) => ({
        operation: path === HEALTH_PATH ? "health" : String(node(operation)["x-operation"]),
        method: method.toUpperCase(),
        path,
        node: node(operation),
        parameters: [...list(node(item)["parameters"]), ...list(node(operation)["parameters"])].map(resolve),
      })),
  );
}

const ALL = listOperations();
const OPERATIONS = ALL.filter(({ operation }) => operation !== "health");

function lines(entries: readonly { operation: string; method: string; path: string }[]): string[] {
  return entries.map(({ operation, method, path }) => `${operation}: ${method} ${path}`).sort();
}

test("every published path has its operations with their methods, and nothing else", () => {
  const routes = FAMILIES.flatMap(({ form, prefix }) =>
    ROUTES.flatMap((route) =>
      pathsOf(route, form).flatMap((path) =>
        route.methods.map((method) => ({
          operation: route.operation as string,
          method,
          path: path === "" ? prefix : `${prefix}/${path}`,
        })),
      ),
    ),
  );
  const health = ["GET", "HEAD"].map((method) => ({ operation: "health", method, path: HEALTH_PATH }));
  expect(lines(ALL)).toEqual(lines([...routes, ...health]));
});

test("a path has operations and parameters only", () => {
  for (const item of Object.values(PATHS)) {
    for (const key of Object.keys(node(item))) expect([...METHODS, "parameters"]).toContain(key);
  }
});

describe("each operation", () => {
  test("names the parameters of its path, each required, and those of its query", () => {
    for (const { operation, path, parameters } of OPERATIONS) {
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? "");
      const namesOf = (place: string) =>
        parameters.filter((parameter) => parameter["in"] === place).map((parameter) => String(parameter["name"]));
      expect([path, namesOf("path").sort()]).toEqual([path, inPath.sort()]);
      for (const parameter of parameters) expect(parameter["required"] ?? false).toBe(parameter["in"] === "path");
      const family = FAMILIES.find(({ prefix }) => path === prefix || path.startsWith(`${prefix}/`));
      const hubInQuery = family?.hub === "query" ? ["hub"] : [];
      expect([path, operation, namesOf("query").sort()]).toEqual([
        path,
        operation,
        [...(QUERY[operation as Operation] ?? []), ...hubInQuery].sort(),
      ]);
    }
  });

  test("has a body if it sends one, of the three types, and no other has", () => {
    for (const { operation, node: written } of OPERATIONS) {
      const body = written["requestBody"];
      expect([operation, body !== undefined]).toEqual([operation, operation.startsWith("sendTo")]);
      if (body === undefined) continue;
      expect(Object.keys(node(resolve(body)["content"])).sort()).toEqual([
        "application/json",
        "application/octet-stream",
        "text/plain",
      ]);
    }
  });

  test("has every status that it may be answered with, and no other", () => {
    for (const { operation, method, path, node: written } of OPERATIONS) {
      const statuses = Object.keys(node(written["responses"])).map(Number);
      const expected = [...EVERYWHERE, ...STATUSES[operation as Operation]];
      expect([method, path, statuses.sort()]).toEqual([method, path, expected.sort()]);
    }
  });

  test("answers errors with the error's schema and codes of this status; successes and HEAD without a body", () => {
    for (const { method, node: written } of OPERATIONS) {
      for (const [status, response] of Object.entries(node(written["responses"]))) {
        const content = resolve(response)["content"];
        if (method === "HEAD" || Number(status) < 400) {
          expect(content).toBeUndefined();
          continue;
        }
        const { schema, examples } = node(node(content)["application/json"]);
        expect(schema).toEqual({ $ref: "#/components/schemas/Error" });
        expect(Object.keys(node(examples))).not.toBeEmpty();
        for (const [code, example] of Object.entries(node(examples))) {
          const value = node(node(example)["value"]);
          expect(Object.keys(value)).toEqual(["code", "message", "target"]);
          expect([code, value["code"], ERROR_CODES[code as ErrorCode]?.status]).toEqual([code, code, Number(status)]);
        }
      }
    }
  });

  test("asks for a token; health does not", () => {
    expect(DOCUMENT["security"]).toEqual([{ token: [] }]);
    for (const { operation, node: written } of ALL) {
      expect([operation, written["security"]]).toEqual([operation, operation === "health" ? [] : undefined]);
    }
  });
});

test("the schema of errors lists the codes of the answers, and those of other paths and methods", () => {
  const shown = OPERATIONS.flatMap(({ node: written }) =>
    Object.values(node(written["responses"])).flatMap((response) => {
      const content = resolve(response)["content"];
      return content === undefined ? [] : Object.keys(node(node(node(content)["application/json"])["examples"]));
    }),
  );
  const schema = resolve({ $ref: "#/components/schemas/Error" });
  const codes = list(node(node(schema["properties"])["code"])["enum"]);
  expect([...codes].sort()).toEqual([...new Set([...shown, "not_found", "method_not_allowed"])].sort());
});

test("every part is used, and every reference leads somewhere", () => {
  const used = new Set<string>();
  const walk = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    for (const [key, child] of Object.entries(value)) {
      if (key === "$ref") {
        resolve({ $ref: child });
        used.add(String(child));
      } else walk(child);
    }
  };
  walk(DOCUMENT);
  for (const [kind, parts] of Object.entries(node(DOCUMENT["components"]))) {
    if (kind === "securitySchemes") continue;
    for (const name of Object.keys(node(parts))) expect([...used]).toContain(`#/components/${kind}/${name}`);
  }
});

test("names are what the code takes for names", () => {
  const said = String(resolve({ $ref: "#/components/schemas/Name" })["description"]);
  expect(said.replaceAll("`", "")).toBe(`${NAME_RULE}.`);
});
