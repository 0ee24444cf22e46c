/**
 * The longest that a test waits for something that must happen.
 *
 * Generous on purpose: it only decides how long a failing test takes, never whether a slow machine passes.
 */
export const DEADLINE_MS = 15_000;

/** Waits for a promise, and names what was waited for when it does not settle in time. */
export async function within<T>(promise: Promise<T>, what: string, deadlineMs = DEADLINE_MS): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${deadlineMs} ms for ${what}`)), deadlineMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Tries again and again until it succeeds; the caller sets the deadline with `within`. */
export async function untilDone<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch {
      await Bun.sleep(20);
    }
  }
}

/** A promise that the test settles itself: holds a backend's answer until the test lets it go. */
export class Gate {
  readonly opened: Promise<void>;
  readonly open: () => void;

  constructor() {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.opened = promise;
    this.open = resolve;
  }
}

/** Waits until a condition holds that nothing announces, by looking again and again. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what: string,
  deadlineMs = DEADLINE_MS,
): Promise<void> {
  const lastMs = performance.now() + deadlineMs;
  while (!(await holds())) {
    if (performance.now() > lastMs) throw new Error(`waited ${deadlineMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
