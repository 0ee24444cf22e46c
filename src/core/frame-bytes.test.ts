import { expect, test } from "bun:test";
import { CoreStage } from "../../test/support/core-stage.ts";

test("what a client's frames take on its connection is counted: heads, and the records of TLS", async () => {
  const bytesOf = async (isEncrypted: boolean, payloadBytes: number): Promise<number> => {
    const stage = new CoreStage();
    const { connection, socket, send } = stage.open();
    socket.isEncrypted = isEncrypted;
    await send("x".repeat(payloadBytes));
    stage.lifecycle.pinged(connection, 0);
    stage.lifecycle.ponged(connection, 7);
    return connection.frameBytes;
  };
  const CONTROL = 6 + 13;
  expect(await bytesOf(false, 10)).toBe(16 + CONTROL);
  expect(await bytesOf(true, 10)).toBe(16 + CONTROL + 3 * 29);
  expect(await bytesOf(true, 16_376)).toBe(16_384 + CONTROL + 3 * 29);
  expect(await bytesOf(true, 16_377)).toBe(16_385 + CONTROL + 4 * 29);
});
