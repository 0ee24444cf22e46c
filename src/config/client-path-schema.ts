import { z } from "zod";
import { isReserved, RESERVED_PATHS } from "../protocol/client-paths.ts";
import { optionDocs, refusing } from "./option-docs.ts";
import { hubNameFault } from "./patterns.ts";

/** The most items of `paths`: each handshake on such a path is compared with them one by one. */
export const MAX_CLIENT_PATHS = 1000;

const PARAMETER = /^\{[A-Za-z_][A-Za-z0-9_]*\}$/;
const MALFORMED_ESCAPE = /%(?![0-9A-Fa-f]{2})/;

/** The schema of `paths`. */
export function clientPathsSchema() {
  const item = z.strictObject({
    pattern: z.string().superRefine(refusing(patternFault)).register(optionDocs, {
      unit: "",
      doc: "The path, such as `/ocpp/{id}`. `{name}` is one segment of any text that is not empty; all else is compared exactly, letter case and escapes included. Not under /ws, /client, /api and /.well-known.",
    }),
    hub: z.string().superRefine(refusing(hubNameFault)).register(optionDocs, {
      unit: "",
      doc: "The hub of the clients that connect there.",
    }),
  });
  return z
    .array(item)
    .max(MAX_CLIENT_PATHS)
    .default([])
    .register(optionDocs, {
      unit: "",
      doc: `Further paths on which clients connect, in order, for devices whose URL is fixed; at most ${MAX_CLIENT_PATHS}. The first match wins. Events of such a connection have the path in X-Hubwire-Client-Path. A change holds for new connections.`,
    });
}

/** What is wrong with a pattern, in a sentence; null where it is one. */
export function patternFault(pattern: string): string | null {
  if (!pattern.startsWith("/")) return 'must begin with "/"';
  if (/[?#]/.test(pattern)) return "must be a path only: leave out the query and the fragment (? and #)";
  if (pattern.includes("*")) return '"*" is no wildcard here: write {name} for one segment, as in /ocpp/{id}';
  const segments = pattern.slice(1).split("/");
  const [first = ""] = segments;
  if (pattern !== "/" && segments.at(-1) === "")
    return 'leave out the "/" at the end: clients may send it all the same';
  if (pattern !== "/" && segments.includes("")) return 'must not have an empty segment ("//")';
  if (isReserved(`/${first}`)) return `must not be under ${RESERVED_PATHS.join(", ")}: hubwire serves these itself`;
  if (segments.some((segment) => segment.startsWith(":"))) {
    return '":" at the start of a segment makes no parameter: write {name}, as in /ocpp/{id}';
  }
  return parametersFault(segments) ?? spellingFault(segments);
}

function parametersFault(segments: readonly string[]): string | null {
  const parameters = segments.filter((segment) => /[{}]/.test(segment));
  if (!parameters.every((segment) => PARAMETER.test(segment))) {
    return "a parameter must be a whole segment, as in /ocpp/{id}; its name has letters, digits and _, and begins with no digit";
  }
  return new Set(parameters).size < parameters.length ? "has a parameter twice: give each its own name" : null;
}

/** A pattern is compared with paths as URL parsers leave them, so one that they would change matches nothing. */
function spellingFault(segments: readonly string[]): string | null {
  const path = `/${segments.map((segment) => (PARAMETER.test(segment) ? "x" : segment)).join("/")}`;
  if (MALFORMED_ESCAPE.test(path)) return 'has a "%" without two hexadecimal digits behind it';
  if (URL.parse(`http://host${path}`)?.pathname === path) return null;
  return "is not a path in the form of URLs: no spaces, quotes, backslashes or segments . and ..; other characters than ASCII as %XX";
}
