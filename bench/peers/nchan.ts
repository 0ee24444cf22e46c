import { Nginx } from "../nginx.ts";
import { NCHAN_MODULE } from "./installed.ts";

/** Where nchan's subscribers connect, and where is published. */
export const NCHAN = { subscribers: "/subscribers", publish: "/publish" } as const;

/**
 * An nginx with nchan: one channel, that keeps as many messages as are in flight at most.
 *
 * Shape: WebSocket subscribers get what is published by POST, as text.
 */
export async function startNchan(): Promise<Nginx> {
  return await Nginx.start(
    `
  nchan_shared_memory_size 128M;
  server {
    listen 127.0.0.1:PORT backlog=4096;
    location = ${NCHAN.subscribers} { nchan_subscriber websocket; nchan_channel_id bench; nchan_subscriber_first_message newest; }
    location = ${NCHAN.publish} { nchan_publisher http; nchan_channel_id bench; nchan_message_buffer_length 1000; }
  }`,
    NCHAN_MODULE,
  );
}
