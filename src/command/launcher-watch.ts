const POLL_MS = 500;

/**
 * Calls back once when the launcher that started this process (`bin/hubwire.mjs`) is gone, even by SIGKILL.
 *
 * Shape:  the launcher names itself in `HUBWIRE_LAUNCHER_PID`; without it nothing is watched. The variable is taken out of
 *         the environment, so that processes started from here do not take that launcher for their own.
 * Units:  notices within half a second. The returned function ends the watch.
 */
export function watchLauncher(onGone: () => void): () => void {
  const launcher = Number(process.env["HUBWIRE_LAUNCHER_PID"] ?? Number.NaN);
  delete process.env["HUBWIRE_LAUNCHER_PID"];
  if (!Number.isInteger(launcher)) return () => {};
  const poll = setInterval(() => {
    if (process.ppid === launcher) return;
    clearInterval(poll);
    onGone();
  }, POLL_MS);
  // The watch alone must not keep a process alive that is done.
  poll.unref();
  return () => clearInterval(poll);
}
