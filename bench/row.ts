import type { Load } from "./load.ts";
import { median } from "./median.ts";

/** Further figures of a side by their names. */
type Details = Readonly<Record<string, number>>;

/** One measurement of one side. */
export interface Sample {
  readonly value: number;
  /** What was sent and did not arrive, or was refused. */
  readonly lost: number;
  /** Further figures of this side, printed below the table as medians. */
  readonly details?: Details;
}

/** What a row compares: each call measures anew, on systems that are ready. */
export interface Sides {
  readonly ours: () => Promise<Sample>;
  /** Left out: the row has an absolute target and nothing to be compared with. */
  readonly theirs?: () => Promise<Sample>;
}

/** Pairs of a row that says nothing else. */
export const USUAL_PAIRS = 7;

/** What all rows share. */
export interface Bench {
  readonly load: Load;
  /** Counted time of one side of one pair. */
  readonly seconds: number;
  /** The folder of the checkout whose gateway is measured. */
  readonly repository: string;
}

/** What came of the pairs. */
export interface Figures {
  /** Medians of the samples. */
  readonly ours: number;
  readonly theirs: number | null;
  /** `ours / theirs` of each pair: median, smallest and largest. Where nothing is compared, `ours` divided by its median. */
  readonly ratio: number;
  readonly spread: readonly [number, number];
  readonly lost: number;
}

/**
 * A row of the table.
 *
 * Order: `prepare` starts what both sides need and puts the end of it on the stack; then the sides are measured in turn, ours and
 *        theirs, as often as there are pairs.
 */
export interface Row {
  readonly name: string;
  readonly what: string;
  readonly unit: string;
  /** What it is compared with, in words. */
  readonly theirs: string;
  readonly target: string;
  /** Of a row that takes long: how many pairs there are where nobody asks for a number. */
  readonly usualPairs?: number;
  /** False: it measures no gateway of its own, so that there is nothing to compare between commits. Default: true. */
  readonly isOfGateway?: boolean;
  /** Names of Debian packages that it needs and that are not installed; the row is left out where there are some. */
  readonly missing?: () => readonly string[];
  /** Gets the medians of both sides' details too. Null: there is no target, the figure is only said. */
  readonly isMet: (figures: Figures, ours: Details, theirs: Details) => boolean | null;
  readonly prepare: (bench: Bench, stack: AsyncDisposableStack) => Promise<Sides>;
}

/** Measures a row's sides in turn, so often. Default: as is usual. */
export async function measureRow(row: Row, bench: Bench, asked: number | undefined): Promise<Measured> {
  const pairs = asked ?? row.usualPairs ?? USUAL_PAIRS;
  await using stack = new AsyncDisposableStack();
  const sides = await row.prepare(bench, stack);
  const ours: Sample[] = [];
  const theirs: Sample[] = [];
  for (let pair = 0; pair < pairs; pair++) {
    ours.push(await sides.ours());
    if (sides.theirs !== undefined) theirs.push(await sides.theirs());
  }
  return { pairs, figures: figuresOf(ours, theirs), ours: detailsOf(ours), theirs: detailsOf(theirs) };
}

/** A row's figures and the medians of its further ones. */
export interface Measured {
  /** How many pairs there were. */
  readonly pairs: number;
  readonly figures: Figures;
  readonly ours: Details;
  readonly theirs: Details;
}

function figuresOf(ours: readonly Sample[], theirs: readonly Sample[]): Figures {
  const middle = median(ours.map(({ value }) => value));
  const ratios = ours.map(({ value }, pair) => value / (theirs[pair]?.value ?? middle));
  return {
    ours: middle,
    theirs: theirs.length === 0 ? null : median(theirs.map(({ value }) => value)),
    ratio: median(ratios),
    spread: [Math.min(...ratios), Math.max(...ratios)],
    lost: [...ours, ...theirs].reduce((sum, { lost }) => sum + lost, 0),
  };
}

function detailsOf(samples: readonly Sample[]): Record<string, number> {
  const names = new Set(samples.flatMap(({ details = {} }) => Object.keys(details)));
  return Object.fromEntries(
    [...names].map((name) => [name, median(samples.map(({ details }) => details?.[name] ?? Number.NaN))]),
  );
}
