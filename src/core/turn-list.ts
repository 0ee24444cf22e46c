/**
 * The items that one turn of the event loop gathers and its end takes. The next turn uses the same places again, so that turns leave no
 * garbage behind.
 *
 * Order:  first in, first out. Items that are added while it is drained wait for the next time.
 * Errors: where `each` throws, those behind stay in the list, in front of what was added meanwhile.
 */
export class TurnList<Item> {
  #items: (Item | undefined)[] = [];
  #count = 0;
  /** The places of the last turn, to be used by the next; null while they are being drained. */
  #spare: (Item | undefined)[] | null = [];

  get count(): number {
    return this.#count;
  }

  add(item: Item): void {
    this.#items[this.#count] = item;
    this.#count++;
  }

  drain(each: (item: Item) => void): void {
    const [items, count] = [this.#items, this.#count];
    this.#items = this.#spare ?? [];
    this.#count = 0;
    this.#spare = null;
    let next = 0;
    try {
      while (next < count) {
        const item = items[next] as Item;
        items[next] = undefined;
        next++;
        each(item);
      }
    } finally {
      if (next < count) this.#putBack(items.slice(next, count) as Item[]);
      // The old places still hold what was put back.
      this.#spare = next < count ? [] : items;
    }
  }

  #putBack(items: readonly Item[]): void {
    const added = this.#items.slice(0, this.#count) as Item[];
    this.#items = [...items, ...added];
    this.#count = this.#items.length;
  }
}
