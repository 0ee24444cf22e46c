import { z } from "zod";
import { optionDocs } from "./option-docs.ts";
import { configSchema } from "./schema.ts";

/** How an option's value looks. A block holds options of its own; a list or map holds entries. */
export type OptionKind = "block" | "integer" | "number" | "boolean" | "text" | "choice" | "pattern" | "list" | "map";

/** One option as the schema declares it. */
export interface Option {
  /** Keys from the top; `[]` is an entry of a list, `{name}` for one of a map. */
  readonly path: readonly string[];
  readonly kind: OptionKind;
  readonly required: boolean;
  readonly nullable: boolean;
  /** The value where the option is left out; undefined for blocks and required options. */
  readonly fallback: unknown;
  readonly choices: readonly string[];
  readonly min: number | null;
  readonly max: number | null;
  readonly unit: string;
  readonly doc: string;
}

type Schema = z.core.$ZodType;

const ALL_OPTIONS: readonly Option[] = Object.entries(configSchema.shape).flatMap(([key, schema]) =>
  describeTree([key], schema),
);

/**
 * Every option, in the schema's order, blocks before what they hold.
 *
 * Shape: the options of one entry of `upstreams` and `hubs` are listed too; `hasTwin` tells them apart.
 */
export function listOptions(): readonly Option[] {
  return ALL_OPTIONS;
}

/** Whether an option can be given by one environment variable and one flag: those of entries cannot. */
export function hasTwin(option: Option): boolean {
  return !option.path.includes("[]") && !option.path.includes("{name}");
}

/** An option's name for people: `upstreams[].timeoutMs`, `hubs.{name}.anonymous`. */
export function optionName(option: Pick<Option, "path">): string {
  return option.path.join(".").replaceAll(".[]", "[]");
}

/**
 * The keys that a path may have; empty where it may have none, or any.
 *
 * `value` is the value at that path: the type of an `auth` decides its keys.
 */
export function knownKeysAt(path: readonly PropertyKey[], value: unknown): readonly string[] {
  let schema: Schema | undefined = configSchema;
  for (const key of path) {
    if (schema === undefined) return [];
    schema = childSchema(unwrapSchema(schema), key);
  }
  if (schema === undefined) return [];
  const inner = unwrapSchema(schema);
  if (inner instanceof z.ZodObject) return Object.keys(inner.shape);
  if (!(inner instanceof z.ZodDiscriminatedUnion)) return [];
  const variant = inner.def.options.find((option) => z.safeParse(z.looseObject(typeShape(option)), value).success);
  return variant instanceof z.ZodObject ? Object.keys(variant.shape) : [];
}

function typeShape(variant: Schema): { type: Schema } {
  const type = variant instanceof z.ZodObject ? (variant.shape["type"] as Schema | undefined) : undefined;
  return { type: type ?? z.never() };
}

function childSchema(parent: Schema, key: PropertyKey): Schema | undefined {
  if (parent instanceof z.ZodObject) return parent.shape[String(key)];
  if (parent instanceof z.ZodArray) return parent.def.element;
  return parent instanceof z.ZodRecord ? parent.def.valueType : undefined;
}

/** A schema without its wrappers: default, null, left out, transformed. */
function unwrapSchema(schema: Schema): Schema {
  const inner = innerSchema(schema);
  return inner === null ? schema : unwrapSchema(inner);
}

/** What the outermost wrapper of a schema is around; null where it has none. */
function innerSchema(schema: Schema): Schema | null {
  if (
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodOptional
  ) {
    return schema.def.innerType;
  }
  return schema instanceof z.ZodPipe ? schema.def.in : null;
}

/** Whether one of a schema's wrappers is such. To try the schema with a value instead costs each start 15 ms. */
function isWrapped(schema: Schema, isSuch: (wrapper: Schema) => boolean): boolean {
  for (let one: Schema | null = schema; one !== null; one = innerSchema(one)) if (isSuch(one)) return true;
  return false;
}

function describeTree(path: readonly string[], schema: Schema): Option[] {
  const own = describeOption(path, schema);
  const children = Object.entries(childShape(unwrapSchema(schema)));
  const marker = own.kind === "list" ? ["[]"] : own.kind === "map" ? ["{name}"] : [];
  return [own, ...children.flatMap(([key, child]) => describeTree([...path, ...marker, key], child))];
}

/** The schemas below a block, or below an entry of a list or map. */
function childShape(inner: Schema): Readonly<Record<string, Schema>> {
  if (inner instanceof z.ZodObject) return inner.shape;
  if (inner instanceof z.ZodArray) return childShape(unwrapSchema(inner.def.element));
  if (inner instanceof z.ZodRecord) return childShape(unwrapSchema(inner.def.valueType));
  if (!(inner instanceof z.ZodDiscriminatedUnion)) return {};
  const shapes = inner.def.options.map((variant) => childShape(unwrapSchema(variant)));
  // The first variant is laid over the others again, so that its documented `type` wins.
  return Object.assign({}, shapes[0], ...shapes.slice(1), shapes[0]);
}

function describeOption(path: readonly string[], schema: Schema): Option {
  const inner = unwrapSchema(schema);
  const doc = optionDocs.get(schema);
  if (doc === undefined) throw new Error(`${path.join(".")} has no documentation in the schema`);
  return {
    path,
    kind: kindOf(inner),
    required: !isWrapped(
      schema,
      (one) => one instanceof z.ZodDefault || one instanceof z.ZodPrefault || one instanceof z.ZodOptional,
    ),
    nullable: isWrapped(schema, (one) => one instanceof z.ZodNullable),
    fallback: schema instanceof z.ZodDefault ? schema.def.defaultValue : undefined,
    choices: choicesOf(inner),
    min: inner instanceof z.ZodNumber ? inner.minValue : null,
    max: inner instanceof z.ZodNumber ? inner.maxValue : null,
    ...doc,
  };
}

function kindOf(inner: Schema): OptionKind {
  if (inner instanceof z.ZodObject || inner instanceof z.ZodDiscriminatedUnion) return "block";
  if (inner instanceof z.ZodArray) return "list";
  if (inner instanceof z.ZodRecord) return "map";
  if (inner instanceof z.ZodNumber) return inner.isInt ? "integer" : "number";
  if (inner instanceof z.ZodBoolean) return "boolean";
  if (inner instanceof z.ZodUnion) return "pattern";
  return choicesOf(inner).length > 0 ? "choice" : "text";
}

function choicesOf(inner: Schema): readonly string[] {
  if (inner instanceof z.ZodEnum) return inner.options.map(String);
  return inner instanceof z.ZodLiteral ? [...inner.values].map(String) : [];
}
