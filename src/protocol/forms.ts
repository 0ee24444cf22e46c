/**
 * The form of what nodes of a cluster store for each other and send to each other.
 *
 * Form 1 is that of 0.1, which announces nothing. Form 2 adds to the replica how long an event has been retried, how long a dead
 * letter has been kept, and facts of newer versions; messages and beats say their form.
 *
 * A node announces in its lease the newest form that it reads, and writes the newest form that every live node has announced.
 * Source: decision 0028.
 */
export const OLDEST_FORM = 1;
export const NEWEST_FORM = 2;

/** A node that is gone has left something in a form that this version does not read. It is left to a newer node. */
export class NewerForm extends Error {
  constructor(what: string, form: number) {
    super(`${what} is in form ${form} of a newer version, and is left to a node of that version`);
    this.name = "NewerForm";
  }
}
