import type { Report } from "../protocol/notices.ts";

/**
 * Makes one report of several listeners, which hear every notice in their order.
 *
 * Errors: an error of a listener reaches neither the caller nor the other listeners; these hear of it as a `fault`.
 */
export function combineReports(...listeners: readonly Report[]): Report {
  return (notice) => {
    for (const listener of listeners) {
      try {
        listener(notice);
      } catch (error) {
        tellOthers(listeners, listener, error);
      }
    }
  };
}

function tellOthers(listeners: readonly Report[], broken: Report, error: unknown): void {
  for (const listener of listeners) {
    if (listener === broken) continue;
    try {
      listener({ kind: "fault", where: "a listener of notices", error });
    } catch {
      // Two are broken at once: no part is left that could report it.
    }
  }
}
