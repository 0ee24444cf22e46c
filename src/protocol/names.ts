const utf8 = new TextEncoder();

/** The hub of a URL that names none. */
export const DEFAULT_HUB = "_default";

const HUB_NAME = /^(?:_default|[A-Za-z][A-Za-z0-9_.,[\]]{0,127})$/i;
const CONTROL_CHARACTER = /[\u0000-\u001f\u007f-\u009f]/;

/** Longest user id and group name, in bytes of UTF-8. Source: PROTOCOL.md, "Words". */
export const MAX_NAME_BYTES = 512;

/** Whether a text is a hub's name. Source: PROTOCOL.md, "Words". */
export function isHubName(text: string): boolean {
  return text === DEFAULT_HUB || HUB_NAME.test(text);
}

/** The form of a hub's name under which it is indexed and compared, since hubs compare case-insensitively everywhere. */
export function hubKey(hub: string): string {
  return hub.toLowerCase();
}

/** How hubs are written outside of the process where that is not in lower case, by `hubKey`. It has no prototype. */
export type HubSpellings = Readonly<Record<string, string>>;

/**
 * How a hub's name is written to upstreams and in the log: always in one way, however clients and callers write it.
 *
 * Shape:  the configuration's spelling, else lower case. `hub` may be in any case.
 * Source: PROTOCOL.md, "Words"; docs/decisions/0020.
 */
export function spellHub(hub: string, spellings: HubSpellings): string {
  const key = hubKey(hub);
  return spellings[key] ?? key;
}

/** The rule of `isHubName`, as text for the caller whose hub was refused. */
export const HUB_RULE = "_default, or a letter followed by at most 127 of A-Z a-z 0-9 _ . , [ ]";

/** The rule of `isName`, as text for the caller whose name was refused. */
export const NAME_RULE = "1 to 512 bytes of UTF-8, no control character, no space at either end, and not . or ..";

/**
 * Whether a text may be a user id or a group's name.
 *
 * Shape:  1 to 512 bytes of UTF-8, no control character, no space at either end: a header parser would trim it, and
 *         ` admin` would become `admin`. Not `.` or `..`: HTTP clients take such a part out of a path, and what was
 *         meant for the user `..` would go to the whole hub (decision 0008).
 * Source: PROTOCOL.md, "Words".
 */
export function isName(text: string): boolean {
  if (text.length === 0 || text.length > MAX_NAME_BYTES || text === "." || text === "..") return false;
  if (isPrintableAscii(text)) return true;
  if (text.trim().length !== text.length || CONTROL_CHARACTER.test(text) || !text.isWellFormed()) return false;
  return utf8.encode(text).length <= MAX_NAME_BYTES;
}

/** Whether a text is ASCII without spaces and controls: almost every name, and then a character is a byte. */
function isPrintableAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code <= 0x20 || code >= 0x7f) return false;
  }
  return true;
}
