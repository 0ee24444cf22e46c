/**
 * The time of day as HTTP writes it (IMF-fixdate), formed once a second.
 *
 * Source: RFC 9110, section 5.6.7.
 */
export class HttpDate {
  #second = Number.NaN;
  #text = "";

  now(): string {
    const second = Math.floor(Date.now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#text = new Date(second * 1000).toUTCString();
    }
    return this.#text;
  }
}
