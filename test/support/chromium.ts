import { type BrowserContext, chromium } from "playwright-core";

/** Debian's browser. */
const CHROMIUM = Bun.which("chromium") ?? "/usr/bin/chromium";
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
/** Many pages on a busy machine take their time. */
const STEP_TIMEOUT_MS = 60_000;

/** Starts Chromium with a profile in a folder. To be closed by the test that started it. */
export async function launchChromium(profile: string): Promise<BrowserContext> {
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    args: FLAGS,
    viewport: { width: 1100, height: 720 },
  });
  browser.setDefaultTimeout(STEP_TIMEOUT_MS);
  return browser;
}
