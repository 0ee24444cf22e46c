import { describe, expect, test } from "bun:test";
import { toPayload } from "../../test/support/payloads.ts";
import { CLOSE } from "../protocol/close-causes.ts";
import { raw } from "./raw.ts";

describe("a client of raw frames", () => {
  test("says an event with each frame: a text frame is text, a binary one bytes, without a copy", () => {
    const bytes = new TextEncoder().encode('{"type":"event"}');
    expect(raw.decode('{"type":"event"}', bytes)).toEqual({ payload: bytes, payloadType: "text" });
    const command = raw.decode(bytes, bytes);
    expect(command).toEqual({ payload: bytes, payloadType: "binary" });
    expect(command.payload).toBe(bytes);
  });

  test("gets a payload's data as a frame, without a copy", () => {
    expect(raw.encode(toPayload("grüße\0"))).toBe("grüße\0");
    const bytes = Uint8Array.of(0, 255);
    expect(raw.encode(toPayload(bytes))).toBe(bytes);
  });

  test("is closed when its event failed, for the reason as it is", () => {
    expect(raw.failed(CLOSE.upstreamUnavailable)).toBe(CLOSE.upstreamUnavailable);
  });
});
