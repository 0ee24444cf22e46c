import { z } from "zod";
import type { DeadLetter, DeadLetters } from "../core/ports/journal.ts";
import { formatUserId } from "../protocol/facts.ts";
import {
  ADMIN_PATHS,
  type DeadLetterCount,
  type DeadLetterEntry,
  type DeadLetterPage,
  MAX_CONNECTION_IDS,
} from "./admin-socket.ts";
import { type AdminRoute, failAdmin } from "./routes.ts";

const PAGE = 500;

const CHOICE = z.strictObject({ connectionIds: z.array(z.string()).max(MAX_CONNECTION_IDS).nullable() });

/**
 * The routes that list dead letters, send them again and drop them.
 *
 * Shape:  `admin-socket.ts` has their paths and bodies. `spellHub` writes a hub as upstreams get it.
 */
export function deadLetterRoutes(deadLetters: DeadLetters, spellHub: (hub: string) => string): readonly AdminRoute[] {
  return [
    {
      method: "GET",
      path: ADMIN_PATHS.list,
      run: (_, query) => list(query.get("after") ?? "0", deadLetters, spellHub),
    },
    { method: "POST", path: ADMIN_PATHS.retry, run: (request) => change(request, (ids) => deadLetters.retry(ids)) },
    { method: "POST", path: ADMIN_PATHS.drop, run: (request) => change(request, (ids) => deadLetters.drop(ids)) },
  ];
}

async function list(after: string, deadLetters: DeadLetters, spellHub: (hub: string) => string): Promise<Response> {
  if (!/^\d{1,15}$/.test(after)) return failAdmin(400, "after must be a place");
  const letters = await deadLetters.list(Number(after), PAGE);
  const last = letters.at(-1);
  const isLast = last === undefined || letters.length < PAGE;
  const page: DeadLetterPage = {
    deadLetters: letters.map((letter) => describe(letter, spellHub)),
    next: isLast ? null : last.place,
  };
  return Response.json(page);
}

function describe(letter: DeadLetter, spellHub: (hub: string) => string): DeadLetterEntry {
  const { facts, end, connectOutcomeUnknown, dueSinceMs, diedAtMs, cause } = letter;
  return {
    connectionId: facts.connectionId,
    hub: spellHub(facts.hub),
    userId: formatUserId(facts.userId),
    closeCode: end.code,
    closeReason: end.reason,
    connectOutcomeUnknown,
    since: new Date(dueSinceMs).toISOString(),
    diedAt: new Date(diedAtMs).toISOString(),
    cause,
  };
}

/** Changes named ids one by one, which shows those that name no dead letter. */
async function change(
  request: Request,
  act: (connectionIds: readonly string[] | null) => Promise<number>,
): Promise<Response> {
  const choice = CHOICE.safeParse(await readJson(request));
  if (!choice.success)
    return failAdmin(400, `connectionIds must be null, or a list of at most ${MAX_CONNECTION_IDS} texts`);
  const { connectionIds } = choice.data;
  if (connectionIds === null) return countOf({ count: await act(null), missing: [] });
  const counts = await Promise.all(connectionIds.map((id) => act([id])));
  const missing = connectionIds.filter((_, position) => counts[position] === 0);
  return countOf({ count: connectionIds.length - missing.length, missing });
}

/** The body's value; undefined where it is not JSON. */
async function readJson(request: Request): Promise<unknown> {
  try {
    return await request.json();
  } catch {
    return undefined;
  }
}

function countOf(count: DeadLetterCount): Response {
  return Response.json(count);
}
