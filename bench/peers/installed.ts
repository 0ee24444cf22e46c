import { existsSync } from "node:fs";

/** Where Debian's `libnginx-mod-nchan` puts its module. */
export const NCHAN_MODULE = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/** Peers by the Debian packages that bring them, and a file or command of each. */
const PACKAGES = {
  pushpin: () => Bun.which("pushpin") !== null,
  zurl: () => Bun.which("zurl") !== null,
  "libnginx-mod-nchan": () => existsSync(NCHAN_MODULE),
} satisfies Record<string, () => boolean>;

/** Those of some Debian packages that are not installed here. */
export function missingPackages(...names: readonly (keyof typeof PACKAGES)[]): string[] {
  return names.filter((name) => !PACKAGES[name]());
}
