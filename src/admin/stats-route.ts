import { ADMIN_PATHS } from "./admin-socket.ts";
import type { AdminRoute } from "./routes.ts";

/** The route that shows the process's numbers as JSON. */
export function statsRoute(read: () => object): AdminRoute {
  return { method: "GET", path: ADMIN_PATHS.stats, run: async () => Response.json(read()) };
}
