// An echo server on npm's ws: node echo.js PORT [CERTIFICATE.pem or ''] [deflate]
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const { WebSocketServer } = require('ws');

const [port, certificate, deflate] = process.argv.slice(2);
const pem = certificate && fs.readFileSync(certificate);
const server = pem ? https.createServer({ cert: pem, key: pem }) : http.createServer();
new WebSocketServer({ server, perMessageDeflate: deflate === 'deflate' }).on('connection', (ws) => {
  ws.on('error', () => {}); // a client that leaves in the middle
  ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
});
server.listen(Number(port), '127.0.0.1');
