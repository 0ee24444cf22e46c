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
 * Source: PROTOCOL.md, "REST API"; a test compares `docs/openapi.yaml` with it.
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

/** The paths of a route in one form, relative to the hub. Source: PROTOCOL.md, "REST API". */
export function pathsOf(route: Route, form: PathForm): readonly string[] {
  return form === "v1" ? route.paths.map((path) => path.replace(/\/?messages$/, "")) : route.paths;
}

/** What one shape of path allows. */
interface Resource {
  readonly template: readonly string[];
  /** What the template names, in order. */
  readonly kinds: readonly string[];
  readonly methods: Map<string, Operation>;
}

/** Of each form, the resources by their number of parts. */
const RESOURCES: Readonly<Record<PathForm, ReadonlyMap<number, readonly Resource[]>>> = {
  ws: buildResources("ws"),
  plain: buildResources("plain"),
  v1: buildResources("v1"),
};

/** The operation that a path and method ask for, or why no operation fits them. */
export type Routed =
  | { readonly kind: "route"; readonly operation: Operation; readonly names: ReadonlyMap<string, string | null> }
  | { readonly kind: "not-found" }
  | { readonly kind: "method"; readonly allow: string };

/** Finds the operation. Source: PROTOCOL.md, "REST API". */
export function routePath({ form, parts }: RestPath, method: string): Routed {
  const resource = RESOURCES[form].get(parts.length)?.find(({ template }) => hasShape(parts, template));
  if (resource === undefined) return { kind: "not-found" };
  const { methods, kinds } = resource;
  const operation = methods.get(method);
  if (operation === undefined) return { kind: "method", allow: [...methods.keys()].join(", ") };
  const names = new Map<string, string | null>();
  for (let i = 0; i < kinds.length; i++) names.set(kinds[i] ?? "", parts[2 * i + 1] ?? null);
  return { kind: "route", operation, names };
}

function buildResources(form: PathForm): Map<number, Resource[]> {
  const resources = new Map<number, Resource[]>();
  for (const route of ROUTES) {
    for (const path of pathsOf(route, form)) {
      const template = path === "" ? [] : path.split("/");
      const alike = resources.get(template.length) ?? [];
      resources.set(template.length, alike);
      let resource = alike.find((other) => hasShape(template, other.template));
      if (resource === undefined) {
        const kinds = template.filter((word) => word.startsWith("{")).map((word) => word.slice(1, -1));
        resource = { template, kinds, methods: new Map() };
        alike.push(resource);
      }
      for (const method of route.methods) resource.methods.set(method, route.operation);
    }
  }
  return resources;
}

/** Whether parts, as many as the template has, are a path of it: literals are at its even places and names at odd ones. */
function hasShape(parts: readonly (string | null)[], template: readonly string[]): boolean {
  for (let i = 0; i < template.length; i += 2) {
    if (parts[i] !== template[i]) return false;
  }
  return true;
}

/** Whether an operation sends its body to clients. */
export function isSend(operation: Operation): boolean {
  return operation.startsWith("sendTo");
}
