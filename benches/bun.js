// Bun's WebSocket server, which is uWebSockets, for comparisons by the load generator. Below /fanout it sends each
// message to all connections, the sender's included; elsewhere it echoes.
// bun benches/bun.js, then ws://127.0.0.1:9011/echo or ws://127.0.0.1:9011/fanout/0

Bun.serve({
  hostname: "127.0.0.1",
  port: 9011,
  fetch(request, server) {
    const isFanout = new URL(request.url).pathname.startsWith("/fanout");
    if (!server.upgrade(request, { data: { isFanout, server } })) {
      return new Response("not a WebSocket handshake", { status: 400 });
    }
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    sendPings: false,
    open(socket) {
      if (socket.data.isFanout) {
        socket.subscribe("all");
      }
    },
    message(socket, message) {
      if (socket.data.isFanout) {
        socket.data.server.publish("all", message);
      } else {
        socket.send(message);
      }
    },
  },
});
