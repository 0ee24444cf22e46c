/** From this many on a set finds a name faster than a walk, and its table no longer outweighs the names. */
const FEW = 16;

/**
 * The names of the groups that one connection is in, in the order of joining.
 *
 * Cost:   an array while they are few, as they mostly are: 40 bytes and 8 for each, where a Set of two takes 250. A name is the
 *         registry's own string, so that members share it.
 */
export class GroupNames {
  #names: string[] | Set<string> = [];

  constructor(names: Iterable<string> = []) {
    for (const name of names) this.add(name);
  }

  get size(): number {
    return Array.isArray(this.#names) ? this.#names.length : this.#names.size;
  }

  has(name: string): boolean {
    return Array.isArray(this.#names) ? this.#names.includes(name) : this.#names.has(name);
  }

  /** Adding a name twice has no further effect. */
  add(name: string): void {
    if (!Array.isArray(this.#names)) this.#names.add(name);
    else if (!this.#names.includes(name)) {
      this.#names.push(name);
      if (this.#names.length > FEW) this.#names = new Set(this.#names);
    }
  }

  /** A name that is not there needs no deleting. */
  delete(name: string): void {
    if (!Array.isArray(this.#names)) this.#names.delete(name);
    else if (this.#names.includes(name)) this.#names = this.#names.filter((other) => other !== name);
  }

  [Symbol.iterator](): Iterator<string> {
    return this.#names[Symbol.iterator]();
  }
}
