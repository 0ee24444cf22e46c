import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { REPOSITORY } from "./command.ts";

/** Runs a command as a user that owns nothing of the tests. */
export const AS_OTHER_USER = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"] as const;

/**
 * Whether tests can run this checkout as another user: that takes root, `setpriv`, and folders that others may enter. A clone below
 * `/root` has none.
 */
export function canRunAsOtherUser(): boolean {
  if (process.getuid?.() !== 0 || Bun.which("setpriv") === null) return false;
  const [command, ...words] = AS_OTHER_USER;
  return spawnSync(command, [...words, "test", "-r", join(REPOSITORY, "package.json")]).status === 0;
}
