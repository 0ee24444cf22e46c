import { findFreePort, type RunningCommand, startCommand } from "./command.ts";

/** `npm start` on free ports, once it has printed its last line. */
export interface StartedExample {
  readonly npm: RunningCommand;
  readonly examplePort: number;
  readonly gatewayPort: number;
  readonly pageUrl: string;
  readonly accessKey: string;
}

/** Starts gateway and chat example as a user does. To be ended by ending `npm`. */
export async function startExample(
  dataDir: string,
  env: Readonly<Record<string, string>> = {},
): Promise<StartedExample> {
  const examplePort = await findFreePort();
  const npm = startCommand("exec npm start", {
    env: { HUBWIRE_LISTEN_PORT: "0", EXAMPLE_PORT: String(examplePort), HUBWIRE_DATA_DIR: dataDir, ...env },
  });
  try {
    const [, pageUrl = ""] = await npm.printed(/^Open (http:\S+) in two browser tabs\.$/m);
    const [, port = "", accessKey = ""] = await npm.printed(
      /^connection string: Endpoint=http:\/\/127\.0\.0\.1:(\d+);AccessKey=([^;]+);Version=1\.0;$/m,
    );
    return { npm, examplePort, gatewayPort: Number(port), pageUrl, accessKey };
  } catch (fault) {
    await npm[Symbol.asyncDispose]();
    throw fault;
  }
}
