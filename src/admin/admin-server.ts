import { rmSync } from "node:fs";
import { makeFolder } from "../auth/private-files.ts";
import type { Report } from "../protocol/notices.ts";
import { adminSocketPath } from "./admin-socket.ts";
import { type AdminRoute, answerAdmin, failAdmin } from "./routes.ts";

export interface AdminServerParts {
  /** Must be locked by this process: a socket that lies there is taken for a leftover of one that was killed. */
  readonly dataDir: string;
  readonly routes: readonly AdminRoute[];
  readonly report: Report;
}

export interface AdminServer {
  /** Lets requests in progress finish, within a second, and removes the socket. May be called twice. */
  stop(): Promise<void>;
}

/** Enough for `MAX_CONNECTION_IDS` ids that are many times longer than those hubwire makes. */
const MAX_BODY_BYTES = 256 * 1024;
const STOP_TIMEOUT_MS = 1000;
/** Bun would cut a change of very many after 10 s. */
const IDLE_TIMEOUT_SECONDS = 120;
/** Only the owner may connect. */
const OWNER_ONLY = 0o177;

/**
 * Serves the routes for operators as HTTP over a Unix socket in the data folder.
 *
 * Shape:  a user who can open the socket may use every route: its mode is 0600.
 * Errors: throws where the folder or the socket cannot be made. A fault behind a request is reported and answered with 500.
 */
export function startAdminServer({ dataDir, routes, report }: AdminServerParts): AdminServer {
  const path = adminSocketPath(dataDir);
  makeFolder(dataDir);
  rmSync(path, { force: true });
  const server = listenPrivately(path, async (request) => {
    try {
      return await answerAdmin(routes, request);
    } catch (error) {
      report({ kind: "fault", where: "control socket", error });
      return failAdmin(500, "fault of the service: its log has more");
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
    throw new Error(
      `dataDir: the path of its control socket is too long for this system: ${path}; choose a shorter dataDir`,
    );
  } finally {
    process.umask(before);
  }
}
