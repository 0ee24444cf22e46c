// What one would write oneself: `ws` for the clients and `undici` for the calls, on Node. It has no headers of its own, no
// signature, no limit, no journal and no log, and holds a client's messages in order by nothing but the generator's patience.
import { Pool } from "undici";
import { WebSocketServer } from "ws";

const pool = new Pool(`http://127.0.0.1:${process.argv[2]}`, { connections: 64, pipelining: 1 });
const server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: false, backlog: 4096 });
const headers = { "content-type": "text/plain; charset=utf-8" };

server.on("connection", (socket) => {
  socket.on("message", async (bytes) => {
    try {
      const { body } = await pool.request({ path: "/plain", method: "POST", headers, body: bytes });
      socket.send(await body.text());
    } catch {
      socket.close(1011);
    }
  });
  // What the generator resets in the end.
  socket.on("error", () => {});
});
server.on("listening", () => console.log(server.address().port));
