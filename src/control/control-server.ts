import { rmSync } from "node:fs";
import { z } from "zod";
import { makeFolder } from "../auth/private-files.ts";
import type { DeadLetter, DeadLetters } from "../core/ports/journal.ts";
import type { Report } from "../core/ports/report.ts";
import {
  CONTROL_PATHS,
  type ControlError,
  controlSocketPath,
  type DeadLetterCount,
  type DeadLetterEntry,
  type DeadLetterPage,
  MAX_CONNECTION_IDS,
} from "./control-socket.ts";

export interface ControlServerParts {
  /** Must be locked by this process: a socket that lies there is taken for a leftover of one that was killed. */
  readonly dataDir: string;
  readonly deadLetters: DeadLetters;
  /** How hubs are written towards upstreams, and so here. */
  readonly spellHub: (hub: string) => string;
  readonly report: Pick<Report, "fault">;
}

export interface ControlServer {
  /** Lets requests in progress finish, within a second, and removes the socket. May be called twice. */
  stop(): Promise<void>;
}

const PAGE = 500;
/** Enough for `MAX_CONNECTION_IDS` ids many times as long as true ones. */
const MAX_BODY_BYTES = 256 * 1024;
const STOP_TIMEOUT_MS = 1000;
/** Bun would cut a change of very many after 10 s. */
const IDLE_TIMEOUT_SECONDS = 120;
/** Nobody but the owner may connect. */
const OWNER_ONLY = 0o177;

const CHOICE = z.strictObject({ connectionIds: z.array(z.string()).max(MAX_CONNECTION_IDS).nullable() });

/**
 * Serves what operators ask of the running process, as HTTP over a Unix socket in the data folder.
 *
 * Shape:  `control-socket.ts` has paths and bodies. Who can open the socket may do everything: its mode is 0600.
 * Errors: throws where the folder or the socket cannot be made. A fault behind a request is reported and answered with 500.
 */
export function startControlServer({ dataDir, deadLetters, spellHub, report }: ControlServerParts): ControlServer {
  const path = controlSocketPath(dataDir);
  makeFolder(dataDir);
  rmSync(path, { force: true });
  const server = listenPrivately(path, async (request) => {
    try {
      return await answer(request, deadLetters, spellHub);
    } catch (error) {
      report.fault("control socket", error);
      return fail(500, "fault of the service: its log has more");
    }
  });
  return {
    stop: async () => {
      const late = setTimeout(() => void server.stop(true), STOP_TIMEOUT_MS);
      await server.stop();
      clearTimeout(late);
    },
  };
}

/** The socket's mode must be right from its first moment: a later chmod would leave a gap. */
function listenPrivately(path: string, fetch: (request: Request) => Promise<Response>): Bun.Server<undefined> {
  const options: Bun.Serve.Options<undefined> = { unix: path, maxRequestBodySize: MAX_BODY_BYTES, fetch };
  // Bun's types know this time-out for ports alone; Bun itself keeps it here too.
  Object.assign(options, { idleTimeout: IDLE_TIMEOUT_SECONDS });
  const before = process.umask(OWNER_ONLY);
  try {
    return Bun.serve(options);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENAMETOOLONG")) throw error;
    // Linux takes any: Bun goes through the opened folder there.
    throw new Error(`dataDir is too long for a socket in it on this system: ${path}`);
  } finally {
    process.umask(before);
  }
}

async function answer(
  request: Request,
  deadLetters: DeadLetters,
  spellHub: (hub: string) => string,
): Promise<Response> {
  const url = new URL(request.url);
  switch (`${request.method} ${url.pathname}`) {
    case `GET ${CONTROL_PATHS.list}`:
      return await list(url.searchParams.get("after") ?? "0", deadLetters, spellHub);
    case `POST ${CONTROL_PATHS.retry}`:
      return await change(request, (ids) => deadLetters.retry(ids));
    case `POST ${CONTROL_PATHS.drop}`:
      return await change(request, (ids) => deadLetters.drop(ids));
    default:
      return fail(404, "this hubwire has no such request: is it another version than the command?");
  }
}

async function list(after: string, deadLetters: DeadLetters, spellHub: (hub: string) => string): Promise<Response> {
  if (!/^\d{1,15}$/.test(after)) return fail(400, "after must be a place");
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
    userId: facts.userId,
    closeCode: end.code,
    closeReason: end.reason,
    connectOutcomeUnknown,
    since: new Date(dueSinceMs).toISOString(),
    diedAt: new Date(diedAtMs).toISOString(),
    cause,
  };
}

/** Named ids are asked one by one, since only so can it be told which of them there are not. */
async function change(
  request: Request,
  act: (connectionIds: readonly string[] | null) => Promise<number>,
): Promise<Response> {
  const choice = CHOICE.safeParse(await readJson(request));
  if (!choice.success) return fail(400, `connectionIds must be null, or a list of at most ${MAX_CONNECTION_IDS} texts`);
  const { connectionIds } = choice.data;
  if (connectionIds === null) return countOf({ count: await act(null), missing: [] });
  const counts = await Promise.all(connectionIds.map((id) => act([id])));
  const missing = connectionIds.filter((_, position) => counts[position] === 0);
  return countOf({ count: connectionIds.length - missing.length, missing });
}

/** The body's value; undefined where it is no JSON. */
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

function fail(status: number, error: string): Response {
  const body: ControlError = { error };
  return Response.json(body, { status });
}
