"use strict";

// Clients and servers of npm's `ws` that the examples meet, after those in its README; examples_kit.py says what they are told.

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const readline = require("node:readline");
const { WebSocket, WebSocketServer, createWebSocketStream } = require("ws");

const config = JSON.parse(process.argv[2]);
const pem = fs.readFileSync(config.certificate);
const ca = fs.readFileSync(config.authority);

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

function describe(data, isBinary) {
  return isBinary ? { hex: data.toString("hex") } : { text: data.toString() };
}

// --- Clients --------------------------------------------------------------------------------------------------------

const clients = new Map();

function connect({ id, url, options }) {
  const ws = new WebSocket(url, { ca, ...options });
  clients.set(id, ws);
  ws.on("upgrade", ({ headers }) => say({ id, event: "open", extensions: headers["sec-websocket-extensions"] ?? "" }));
  ws.on("message", (data, isBinary) => say({ id, event: "message", ...describe(data, isBinary) }));
  ws.on("ping", () => say({ id, event: "ping" }));
  ws.on("close", (code, reason) => say({ id, event: "close", code, reason: reason.toString() }));
  ws.on("error", () => {});
  ws.on("unexpected-response", async (request, response) => {
    const body = [];
    for await (const chunk of response) {
      body.push(chunk);
    }
    say({ id, event: "refused", status: response.statusCode, body: Buffer.concat(body).toString() });
  });
}

const COMMANDS = {
  connect,
  serve,
  send({ id, text, hex }) {
    clients.get(id).send(text ?? Buffer.from(hex, "hex"));
  },
  floats({ id, numbers }) {
    clients.get(id).send(new Float32Array(numbers));
  },
  pause({ id }) {
    clients.get(id).pause();
  },
  resume({ id }) {
    clients.get(id).resume();
  },
  close({ id }) {
    clients.get(id).close();
  },
};

// --- Servers --------------------------------------------------------------------------------------------------------

const KINDS = {
  echo(ws) {
    ws.on("message", (data, isBinary) => ws.send(data, { binary: isBinary }));
  },
  double(ws) {
    ws.binaryType = "arraybuffer";
    ws.on("message", (data) => ws.send(new Float32Array(data).map((number) => 2 * number)));
  },
  silence() {},
  collect(ws, report) {
    const parts = [];
    const duplex = createWebSocketStream(ws);
    duplex.on("data", (part) => parts.push(part));
    duplex.on("end", () => report({ event: "end", hex: Buffer.concat(parts).toString("hex") }));
  },
  emit(ws) {
    const duplex = createWebSocketStream(ws);
    duplex.resume();
    for (let i = 0; i < 64; ++i) {
      duplex.write(Buffer.alloc(16384, i));
    }
    duplex.end();
  },
};

function serve({ id, kind, tls, options }) {
  const server = tls ? https.createServer({ key: pem, cert: pem }) : http.createServer();
  const report = (line) => say({ id, ...line });
  new WebSocketServer({ server, ...options }).on("connection", (ws, request) => {
    report({ event: "connection", headers: request.headers, extensions: ws.extensions });
    ws.on("ping", () => report({ event: "ping" }));
    ws.on("close", (code, reason) => report({ event: "close", code, reason: reason.toString() }));
    ws.on("error", () => {});
    KINDS[kind](ws, report);
  });
  server.listen(0, "127.0.0.1", () => report({ event: "listening", port: server.address().port }));
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    COMMANDS[command.do](command);
  }
  process.exit(0);
}

main();
