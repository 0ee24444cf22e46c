export const BUN_SETTINGS: { readonly MIMALLOC_PURGE_HOLES_MIN_INTERVAL: string };
