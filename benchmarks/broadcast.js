// A server on npm's ws that sends each message to all: node broadcast.js PORT
const { WebSocket, WebSocketServer } = require('ws');

const [port] = process.argv.slice(2);
const server = new WebSocketServer({ port: Number(port), host: '127.0.0.1', perMessageDeflate: false });
server.on('connection', (ws) => {
  ws.on('error', () => {}); // a client that leaves in the middle
  ws.on('message', (data, isBinary) => {
    server.clients.forEach((client) => {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
    });
  });
});
