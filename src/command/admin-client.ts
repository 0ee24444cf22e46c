import { z } from "zod";
import {
  ADMIN_PATHS,
  adminSocketPath,
  type DeadLetterChoice,
  type DeadLetterCount,
  type DeadLetterPage,
} from "../admin/admin-socket.ts";

/** Long enough for the largest change, which is one write for all. */
const CALL_TIMEOUT_MS = 60_000;

const PAGE: z.ZodType<DeadLetterPage> = z.object({
  deadLetters: z.array(
    z.object({
      connectionId: z.string(),
      hub: z.string(),
      userId: z.string(),
      closeCode: z.number(),
      closeReason: z.string(),
      connectOutcomeUnknown: z.boolean(),
      since: z.string(),
      diedAt: z.string(),
      cause: z.string(),
    }),
  ),
  next: z.number().nullable(),
});
const COUNT: z.ZodType<DeadLetterCount> = z.object({ count: z.number(), missing: z.array(z.string()) });
const FAILURE = z.object({ error: z.string() });

/**
 * Asks the process at work in a data folder for its dead letters behind a place.
 *
 * Errors: rejects with a sentence where no process runs there, or it does not answer as it should. `askToChange` alike.
 */
export async function askForPage(dataDir: string, after: number): Promise<DeadLetterPage> {
  return await ask(dataDir, `${ADMIN_PATHS.list}?after=${after}`, null, PAGE);
}

/** Asks it to send dead letters again, or to forget them. */
export async function askToChange(
  dataDir: string,
  change: "retry" | "drop",
  choice: DeadLetterChoice,
): Promise<DeadLetterCount> {
  return await ask(dataDir, ADMIN_PATHS[change], choice, COUNT);
}

async function ask<T>(dataDir: string, target: string, body: object | null, schema: z.ZodType<T>): Promise<T> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(`http://hubwire${target}`, {
      unix: adminSocketPath(dataDir),
      ...(body === null ? {} : { method: "POST", body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
    text = await response.text();
  } catch (error) {
    throw new Error(describeFailure(error, dataDir));
  }
  const answer = parseJson(text);
  const result = schema.safeParse(answer);
  if (response.ok && result.success) return result.data;
  const failure = FAILURE.safeParse(answer);
  if (failure.success) throw new Error(`the hubwire in ${dataDir} says: ${failure.data.error}`);
  throw new Error(`the hubwire in ${dataDir} answered ${response.status}, which this version does not understand`);
}

/** The value; undefined where the text is not JSON. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function describeFailure(error: unknown, dataDir: string): string {
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "it failed";
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
    case "ECONNREFUSED":
      return `no hubwire runs in ${dataDir}: start it, or name its folder with --config or --data-dir`;
    case "EACCES":
    case "EPERM":
      return `the hubwire in ${dataDir} belongs to another user: run this as that user`;
    default:
      if (error instanceof Error && error.name === "TimeoutError") {
        return `no answer from the hubwire in ${dataDir} within ${CALL_TIMEOUT_MS / 1000} s`;
      }
      return `no answer from the hubwire in ${dataDir}: ${code}`;
  }
}
