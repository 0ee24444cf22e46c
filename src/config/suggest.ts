/**
 * The known name that someone who wrote `name` most likely meant, or null.
 *
 * A name within a third of its length in edits (case and `-`, `_` aside) is meant; else the shortest that ends with it,
 * as in `port` for `listen.port`. `separator` is what joins the parts of a known name.
 */
export function suggestName(name: string, known: readonly string[], separator: string): string | null {
  const written = fold(name);
  const allowed = Math.max(1, Math.floor(written.length / 3));
  let best: string | null = null;
  let bestDistance = allowed + 1;
  for (const candidate of known) {
    const distance = editDistance(written, fold(candidate));
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  if (best !== null) return best;
  const ending = `${separator}${name}`.toLowerCase();
  const endings = known.filter((candidate) => candidate.toLowerCase().endsWith(ending));
  return endings.sort((a, b) => a.length - b.length)[0] ?? null;
}

/** The end of a fault's sentence that passes a suggestion on; empty without one. */
export function didYouMean(suggestion: string | null): string {
  return suggestion === null ? "" : `; did you mean \`${suggestion}\`?`;
}

function fold(name: string): string {
  return name.toLowerCase().replace(/[-_]/g, "");
}

/** Edits that turn one text into the other: one character more, less, other, or two neighbours swapped. */
function editDistance(from: string, to: string): number {
  // A key of a megabyte is not a typing mistake; comparing it would only cost time.
  if (Math.abs(from.length - to.length) > 20) return Number.POSITIVE_INFINITY;
  let beforeLast: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const same = from[row - 1] === to[column - 1];
      let cost = Math.min(
        (last[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (same ? 0 : 1),
      );
      if (row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1]) {
        cost = Math.min(cost, (beforeLast[column - 2] ?? 0) + 1);
      }
      current.push(cost);
    }
    beforeLast = last;
    last = current;
  }
  return last[to.length] ?? 0;
}
