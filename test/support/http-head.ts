/**
 * The head of a recorded HTTP message, its lines exactly as they were on the wire.
 *
 * Shape: bytes are read as Latin-1, one char a byte, so nothing is lost; `utf8` reads a value as UTF-8.
 */
export class HttpHead {
  readonly bytes: Buffer;
  readonly firstLine: string;
  readonly lines: readonly string[];

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    const [firstLine = "", ...lines] = bytes
      .toString("latin1")
      .replace(/\r\n\r\n$/, "")
      .split("\r\n");
    this.firstLine = firstLine;
    this.lines = lines;
  }

  /** Header names in their order and spelling. */
  get names(): string[] {
    return this.lines.map((line) => line.slice(0, line.indexOf(":")));
  }

  /**
   * The value under a name spelled exactly so; undefined where the header is absent.
   *
   * Errors: throws where it is repeated, spelled otherwise, or not written as `Name: value`.
   */
  header(name: string): string | undefined {
    const found = this.lines.filter((line) => line.slice(0, line.indexOf(":")).toLowerCase() === name.toLowerCase());
    if (found.length === 0) return undefined;
    const [line = ""] = found;
    if (found.length > 1) throw new Error(`${name} occurs ${found.length} times: ${JSON.stringify(found)}`);
    if (line === `${name}:` || line === `${name}: `) return "";
    if (!line.startsWith(`${name}: `)) throw new Error(`expected "${name}: …", got ${JSON.stringify(line)}`);
    return line.slice(name.length + 2);
  }

  /** Like `header`, with the value's bytes read as UTF-8. */
  utf8(name: string): string | undefined {
    const value = this.header(name);
    return value === undefined ? undefined : Buffer.from(value, "latin1").toString("utf8");
  }

  /** All values under a name in any case, in their order. */
  all(name: string): string[] {
    return this.lines
      .filter((line) => line.slice(0, line.indexOf(":")).toLowerCase() === name.toLowerCase())
      .map((line) => line.slice(line.indexOf(":") + 1).trim());
  }
}
