/**
 * The REST API's operations and their published paths, as the tables of them in the tests' own words: every table of
 * the end-to-end tests is made from here.
 *
 * Source: PROTOCOL.md, "REST API".
 */

/** The names that a path may hold; they are percent-encoded when filled in. */
export interface Names {
  readonly user?: string;
  readonly group?: string;
  readonly connection?: string;
}

interface PathForm {
  readonly name: string;
  /** Whether the URL says which hub; where not, it is `_default`. */
  readonly namesHub: boolean;
  /** The first preview's sends have no `/messages` ending. */
  readonly isPreview: boolean;
  readonly prefix: (hub: string) => string;
  readonly query: (hub: string) => string;
}

const none = (): string => "";

const PATH_FORMS: readonly PathForm[] = [
  {
    name: "/ws/api/hubs/{hub}",
    namesHub: true,
    isPreview: false,
    prefix: (hub) => `/ws/api/hubs/${hub}`,
    query: none,
  },
  { name: "/ws/api", namesHub: false, isPreview: false, prefix: () => "/ws/api", query: none },
  {
    name: "/ws/api/hubs/_default",
    namesHub: false,
    isPreview: false,
    prefix: () => "/ws/api/hubs/_default",
    query: none,
  },
  { name: "/api?hub={hub}", namesHub: true, isPreview: false, prefix: () => "/api", query: (hub) => `hub=${hub}` },
  { name: "/api", namesHub: false, isPreview: false, prefix: () => "/api", query: none },
  {
    name: "/ws/api/v1/hubs/{hub}",
    namesHub: true,
    isPreview: true,
    prefix: (hub) => `/ws/api/v1/hubs/${hub}`,
    query: none,
  },
  { name: "/ws/api/v1", namesHub: false, isPreview: true, prefix: () => "/ws/api/v1", query: none },
];

/** What the API can do. */
export type Action =
  | "broadcast"
  | "send to user"
  | "send to connection"
  | "send to group"
  | "add connection to group"
  | "remove connection from group"
  | "add user to group"
  | "remove user from group"
  | "remove user from all groups"
  | "is the user in the group"
  | "close connection"
  | "connection exists"
  | "user exists"
  | "group exists";

interface Operation {
  readonly action: Action;
  readonly methods: readonly string[];
  readonly paths: readonly string[];
  /** Where the first preview differs. */
  readonly previewPaths?: readonly string[];
}

const CONNECTION_IN_GROUP = ["/groups/{group}/connections/{connection}", "/connections/{connection}/groups/{group}"];
const USER_IN_GROUP = ["/users/{user}/groups/{group}", "/groups/{group}/users/{user}"];
/** All operations of the 2020 API. */
const PREVIEW_USER_IN_GROUP = ["/groups/{group}/users/{user}"];

const OPERATIONS: readonly Operation[] = [
  { action: "broadcast", methods: ["POST"], paths: ["/messages"], previewPaths: [""] },
  { action: "send to user", methods: ["POST"], paths: ["/users/{user}/messages"], previewPaths: ["/users/{user}"] },
  {
    action: "send to connection",
    methods: ["POST"],
    paths: ["/connections/{connection}/messages"],
    previewPaths: ["/connections/{connection}"],
  },
  {
    action: "send to group",
    methods: ["POST"],
    paths: ["/groups/{group}/messages"],
    previewPaths: ["/groups/{group}"],
  },
  { action: "add connection to group", methods: ["PUT"], paths: CONNECTION_IN_GROUP },
  { action: "remove connection from group", methods: ["DELETE"], paths: CONNECTION_IN_GROUP },
  {
    action: "add user to group",
    methods: ["PUT"],
    paths: USER_IN_GROUP,
    previewPaths: PREVIEW_USER_IN_GROUP,
  },
  {
    action: "remove user from group",
    methods: ["DELETE"],
    paths: USER_IN_GROUP,
    previewPaths: PREVIEW_USER_IN_GROUP,
  },
  { action: "remove user from all groups", methods: ["DELETE"], paths: ["/users/{user}/groups"] },
  {
    action: "is the user in the group",
    methods: ["GET", "HEAD"],
    paths: USER_IN_GROUP,
    previewPaths: PREVIEW_USER_IN_GROUP,
  },
  { action: "close connection", methods: ["DELETE"], paths: ["/connections/{connection}"] },
  { action: "connection exists", methods: ["GET", "HEAD"], paths: ["/connections/{connection}"] },
  { action: "user exists", methods: ["GET", "HEAD"], paths: ["/users/{user}"] },
  { action: "group exists", methods: ["GET", "HEAD"], paths: ["/groups/{group}"] },
];

/** One operation under one of its published paths. */
export class PublishedPath {
  readonly action: Action;
  readonly method: string;
  readonly namesHub: boolean;
  /** The path with its placeholders, for a test's name. */
  readonly template: string;
  readonly #form: PathForm;
  readonly #tail: string;

  constructor(operation: Operation, method: string, form: PathForm, tail: string) {
    this.action = operation.action;
    this.method = method;
    this.namesHub = form.namesHub;
    this.#form = form;
    this.#tail = tail;
    const query = form.query("{hub}");
    this.template = form.prefix("{hub}") + tail + (query === "" ? "" : `?${query}`);
  }

  /** Path and query for a request. The hub counts only where this form names one. */
  target(hub: string, names: Names, query = ""): string {
    const queries = [this.#form.query(hub), query].filter((part) => part !== "").join("&");
    return this.#form.prefix(hub) + fill(this.#tail, names) + (queries === "" ? "" : `?${queries}`);
  }
}

function fill(template: string, names: Names): string {
  return template.replace(/\{(\w+)\}/g, (_whole, kind: keyof Names) => {
    const name = names[kind];
    if (name === undefined) throw new Error(`${template} needs the name of a ${kind}`);
    return encodeURIComponent(name);
  });
}

/** Every published path of these actions, with every method and with and without a slash at its end. */
export function publishedPaths(...actions: readonly Action[]): PublishedPath[] {
  const rows: PublishedPath[] = [];
  for (const operation of OPERATIONS.filter(({ action }) => actions.includes(action))) {
    for (const form of PATH_FORMS) {
      const tails = form.isPreview ? (operation.previewPaths ?? operation.paths) : operation.paths;
      for (const tail of tails.flatMap((path) => [path, `${path}/`])) {
        for (const method of operation.methods) rows.push(new PublishedPath(operation, method, form, tail));
      }
    }
  }
  return rows;
}

/** The plain 2020 form of an operation, for tests that are about something else. */
export function target(action: Action, hub: string, names: Names = {}, query = ""): string {
  const row = publishedPaths(action)[0];
  if (row === undefined) throw new Error(`no path for ${action}`);
  return row.target(hub, names, query);
}
