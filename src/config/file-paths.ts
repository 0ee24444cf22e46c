import { accessSync, constants, statSync } from "node:fs";
import { resolve } from "node:path";
import { describeReadError } from "./config-file.ts";
import { type Path, type TreeFault, valueAt } from "./faults.ts";
import { listOptions } from "./options.ts";
import { expandPath, replaceAt, type Tree } from "./tree.ts";

/** Makes every path in a tree absolute; relative ones start at `folder`. */
export function resolvePaths(tree: Tree, folder: string): void {
  for (const path of listPaths(tree)) {
    const value = valueAt(tree, path);
    // An empty path is a fault; made absolute it would pass as the folder itself.
    if (typeof value === "string" && value !== "") replaceAt(tree, path, resolve(folder, value));
  }
}

/** Faults of the files that options name: each must exist, be a file, and be readable. */
export function findFileFaults(tree: Tree): TreeFault[] {
  return listPaths(tree)
    .filter((path) => path.at(-1) !== "dataDir")
    .flatMap((path) => {
      const value = valueAt(tree, path);
      const message = typeof value === "string" && value !== "" ? fileFault(value) : null;
      return message === null ? [] : [{ path, message }];
    });
}

function listPaths(tree: Tree): Path[] {
  return listOptions()
    .filter((option) => option.unit === "path")
    .flatMap((option) => expandPath(option.path, tree));
}

function fileFault(file: string): string | null {
  try {
    accessSync(file, constants.R_OK);
    return statSync(file).isFile() ? null : "it is not a regular file";
  } catch (error) {
    return `the file ${describeReadError(error)}`;
  }
}
