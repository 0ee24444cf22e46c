// What the REST API is measured against: it answers 202, and reads neither head nor body.
const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response(null, { status: 202 }) });
console.log(server.port);
