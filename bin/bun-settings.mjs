/**
 * Variables that Bun is started with, since it reads them before any script; the user's own go before them.
 *
 * Bun's allocator looks for memory to give back to the system whenever the event loop comes to rest, at most once in so many
 * milliseconds. Every 100 ms, as it is without this, costs an idle gateway a fifth of its CPU. Memory that is no longer needed
 * is given back two seconds later at most.
 */
export const BUN_SETTINGS = { MIMALLOC_PURGE_HOLES_MIN_INTERVAL: "2000" };
