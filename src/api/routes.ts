import type { PathForm, RestPath } from "../protocol/rest-path.ts";

/** Everything that the REST API can do. */
export type Operation =
  | "sendToHub"
  | "sendToUser"
  | "sendToConnection"
  | "sendToGroup"
  | "addConnectionToGroup"
  | "removeConnectionFromGroup"
  | "addUserToGroup"
  | "removeUserFromGroup"
  | "removeUserFromAllGroups"
  | "isUserInGroup"
  | "closeConnection"
  | "connectionExists"
  | "userExists"
  | "groupExists";

/** One operation and the paths under which it is published, relative to the hub. */
export interface Route {
  readonly operation: Operation;
  readonly methods: readonly string[];
  readonly paths: readonly string[];
}

const CONNECTION_IN_GROUP = ["groups/{group}/connections/{connection}", "connections/{connection}/groups/{group}"];
const USER_IN_GROUP = ["users/{user}/groups/{group}", "groups/{group}/users/{user}"];
const READ = ["GET", "HEAD"];

/**
 * The table of the REST API. Sends have no `/messages` at their end in the first preview (`pathsOf`).
 *
 * Source: spec section 6; `docs/openapi.yaml` is held to it by a test.
 */
export const ROUTES: readonly Route[] = [
  { operation: "sendToHub", methods: ["POST"], paths: ["messages"] },
  { operation: "sendToUser", methods: ["POST"], paths: ["users/{user}/messages"] },
  { operation: "sendToConnection", methods: ["POST"], paths: ["connections/{connection}/messages"] },
  { operation: "sendToGroup", methods: ["POST"], paths: ["groups/{group}/messages"] },
  { operation: "addConnectionToGroup", methods: ["PUT"], paths: CONNECTION_IN_GROUP },
  { operation: "removeConnectionFromGroup", methods: ["DELETE"], paths: CONNECTION_IN_GROUP },
  { operation: "addUserToGroup", methods: ["PUT"], paths: USER_IN_GROUP },
  { operation: "removeUserFromGroup", methods: ["DELETE"], paths: USER_IN_GROUP },
  { operation: "removeUserFromAllGroups", methods: ["DELETE"], paths: ["users/{user}/groups"] },
  { operation: "isUserInGroup", methods: READ, paths: USER_IN_GROUP },
  { operation: "closeConnection", methods: ["DELETE"], paths: ["connections/{connection}"] },
  { operation: "connectionExists", methods: READ, paths: ["connections/{connection}"] },
  { operation: "userExists", methods: READ, paths: ["users/{user}"] },
  { operation: "groupExists", methods: READ, paths: ["groups/{group}"] },
];

/** The paths of a route in one form, relative to the hub. Source: spec section 6, "other published paths". */
export function pathsOf(route: Route, form: PathForm): readonly string[] {
  return form === "v1" ? route.paths.map((path) => path.replace(/\/?messages$/, "")) : route.paths;
}

/** What one shape of path allows. */
interface Resource {
  readonly template: readonly string[];
  readonly methods: Map<string, Operation>;
}

const RESOURCES: Readonly<Record<PathForm, ReadonlyMap<string, Resource>>> = {
  ws: buildResources("ws"),
  plain: buildResources("plain"),
  v1: buildResources("v1"),
};

/** The operation that a path and method ask for, or why there is none. */
export type Routed =
  | { readonly kind: "route"; readonly operation: Operation; readonly names: ReadonlyMap<string, string | null> }
  | { readonly kind: "not-found" }
  | { readonly kind: "method"; readonly allow: string };

/** Finds the operation. Source: spec section 6, its table. */
export function routePath(path: RestPath, method: string): Routed {
  const resource = RESOURCES[path.form].get(shapeOf(path.parts));
  if (resource === undefined) return { kind: "not-found" };
  const { methods, template } = resource;
  const operation = methods.get(method);
  if (operation === undefined) return { kind: "method", allow: [...methods.keys()].join(", ") };
  const names = new Map<string, string | null>();
  template.forEach((word, index) => {
    if (word.startsWith("{")) names.set(word.slice(1, -1), path.parts[index] ?? null);
  });
  return { kind: "route", operation, names };
}

function buildResources(form: PathForm): Map<string, Resource> {
  const resources = new Map<string, Resource>();
  for (const route of ROUTES) {
    for (const path of pathsOf(route, form)) {
      const template = path === "" ? [] : path.split("/");
      const shape = shapeOf(template);
      const resource = resources.get(shape) ?? { template, methods: new Map<string, Operation>() };
      resources.set(shape, resource);
      for (const method of route.methods) resource.methods.set(method, route.operation);
    }
  }
  return resources;
}

/**
 * Literals stand at even places of every path and names at odd ones, so a path's shape needs no search.
 *
 * As JSON: a malformed or empty part, or one that holds a decoded `/`, must not look like another path.
 */
function shapeOf(parts: readonly (string | null)[]): string {
  return JSON.stringify(parts.map((part, index) => (index % 2 === 0 ? part : "*")));
}

/** Whether an operation sends its body to clients. */
export function isSend(operation: Operation): boolean {
  return operation.startsWith("sendTo");
}
