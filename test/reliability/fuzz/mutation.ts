import type { Dice } from "../support/dice.ts";

/** Strings that parsers have stumbled over: line ends, NUL, escapes, non-ASCII, numbers at an edge, long ones. */
const NASTY_TEXTS: readonly string[] = [
  "",
  " ",
  "\t",
  "\0",
  "\r",
  "\n",
  "\r\n",
  "\r\n\r\n",
  "\r\nInjected: yes\r\n",
  "\x7f",
  "\xff\xfe",
  "%",
  "%0",
  "%00",
  "%0d%0aInjected:%20yes",
  "%2e%2e",
  "%2F",
  "%C0%80",
  "%ff",
  "%ED%A0%80",
  "../",
  "..\\",
  "//",
  "?",
  "#",
  "&",
  "=",
  ":",
  ",",
  ";",
  '"',
  "'",
  "\\",
  "{hub}",
  "$(x)",
  "__proto__",
  "constructor",
  "null",
  "-1",
  "0",
  "00",
  "+1",
  "0x10",
  "1e3",
  "65536",
  "2147483648",
  "4294967296",
  "9007199254740993",
  "18446744073709551616",
  "NaN",
  "Infinity",
  "\xc3\xbc",
  "\xf0\x9f\x98\x80",
];

/** A nasty text; now and then a long one. */
export function nastyText(dice: Dice): string {
  if (dice.chance(0.03)) return dice.pick(["A", "%41", ",", "\xe4"]).repeat(dice.pick([300, 5000, 20_000]));
  return dice.pick(NASTY_TEXTS);
}

/** Some bytes of a text or a frame changed: flipped, taken out, put in, doubled, or all cut off from a place on. */
export function mutate(bytes: Buffer, dice: Dice): Buffer {
  let mutated = Buffer.from(bytes);
  const times = 1 + dice.below(4);
  for (let i = 0; i < times; i++) {
    const at = dice.below(mutated.length + 1);
    const to = Math.min(mutated.length, at + 1 + dice.below(8));
    const [before, piece, after] = [mutated.subarray(0, at), mutated.subarray(at, to), mutated.subarray(to)];
    switch (dice.below(6)) {
      case 0:
        if (at < mutated.length) mutated[at] = (mutated[at] ?? 0) ^ (1 << dice.below(8));
        break;
      case 1:
        mutated = Buffer.concat([before, after]);
        break;
      case 2:
        mutated = Buffer.concat([before, dice.bytes(1 + dice.below(4)), piece, after]);
        break;
      case 3:
        mutated = Buffer.concat([before, piece, piece, after]);
        break;
      case 4:
        mutated = Buffer.concat([before, Buffer.from(nastyText(dice), "latin1"), piece, after]);
        break;
      default:
        // Rarely, or little would be left of most cases.
        if (dice.chance(0.2)) mutated = Buffer.from(before);
    }
  }
  return mutated;
}

/** The bytes in one to four pieces, cut at random places. */
export function split(bytes: Buffer, dice: Dice): Buffer[] {
  if (bytes.length < 2 || dice.chance(0.6)) return [bytes];
  const places = Array.from({ length: 1 + dice.below(3) }, () => 1 + dice.below(bytes.length - 1));
  const cuts = [0, ...places.sort((one, other) => one - other), bytes.length];
  return cuts
    .slice(1)
    .map((end, i) => bytes.subarray(cuts[i], end))
    .filter((piece) => piece.length > 0);
}
