"use strict";

// The peer that is npm's `ws`, as client and as server; interop_kit.py says what it is told and what it reports.

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const readline = require("node:readline");
const { WebSocket, WebSocketServer } = require("ws");

const config = JSON.parse(process.argv[2]);
const pem = fs.readFileSync(config.certificate);
const ca = fs.readFileSync(config.authority);

// What this side adds to its half of every handshake.
const HEADERS = { "X-Interop": "ws" };

function say(line) {
  process.stdout.write(JSON.stringify(line) + "\n");
}

// Follow a connection to its end; returns what the next message is taken with, undefined standing for the end.
function follow(ws, report) {
  const messages = [];
  let over = false;
  let wake = () => {};
  ws.on("message", (data, isBinary) => {
    messages.push([data, isBinary]);
    wake();
  });
  ws.on("pong", (payload) => report.pongs.push(payload.toString("hex")));
  ws.on("error", (error) => {
    report.error = String(error);
  });
  ws.on("close", (code, reason) => {
    over = true;
    wake();
    say({ ...report, code, reason: reason.toString() });
  });
  return async () => {
    while (messages.length === 0 && !over) {
      await new Promise((resolve) => {
        wake = resolve;
      });
    }
    return messages.shift();
  };
}

async function ping(ws, payload) {
  const pong = new Promise((resolve) => {
    ws.once("pong", resolve);
  });
  ws.ping(Buffer.from(payload, "hex"));
  await pong;
}

const STEPS = {
  async send(ws, receive, isText, pieces) {
    const last = pieces.length - 1;
    for (const [index, piece] of pieces.entries()) {
      if (piece === null) {
        await ping(ws, "");
      } else {
        ws.send(Buffer.from(piece, "hex"), { binary: !isText, fin: index === last });
      }
    }
  },
  async ping(ws, receive, payload) {
    await ping(ws, payload);
  },
  async receive(ws, receive) {
    await receive();
  },
  async close(ws, receive, code, reason) {
    if (code === null) {
      ws.close();
    } else {
      ws.close(code, reason);
    }
  },
  async terminate(ws) {
    ws.terminate();
  },
};

async function play(ws, receive, steps) {
  for (const [name, ...args] of steps) {
    await STEPS[name](ws, receive, ...args);
  }
  for (let message = await receive(); message !== undefined; message = await receive()) {
    ws.send(message[0], { binary: message[1] });
  }
}

// --- Server ---------------------------------------------------------------------------------------------------------

function scriptOf(request) {
  return JSON.parse(decodeURIComponent(request.url.slice(request.url.indexOf("?") + 1)));
}

async function listen(server, ...where) {
  const sockets = new WebSocketServer({
    server,
    perMessageDeflate: true,
    handleProtocols: (offers, request) => scriptOf(request).choice ?? false,
    verifyClient: ({ req }, answer) => {
      const { refusal } = scriptOf(req);
      answer(refusal === null, 401, refusal, HEADERS);
    },
  });
  sockets.on("headers", (headers) => headers.push(`X-Interop: ${HEADERS["X-Interop"]}`));
  sockets.on("connection", (ws, request) => {
    const script = scriptOf(request);
    const { protocol, extensions } = ws;
    const header = request.headers["x-interop"];
    play(ws, follow(ws, { id: script.id, protocol, extensions, header, pongs: [] }), script.steps);
  });
  await new Promise((resolve) => {
    server.listen(...where, resolve);
  });
  return server.address().port ?? 0;
}

async function listenEverywhere() {
  const ports = { tcp: await listen(http.createServer(), 0, "127.0.0.1") };
  ports.tls = await listen(https.createServer({ key: pem, cert: pem }), 0, "127.0.0.1");
  ports.unix = await listen(http.createServer(), config.socket);
  if (config.ipv6) {
    ports.ipv6 = await listen(http.createServer(), 0, "::1");
  }
  return ports;
}

// --- Client ---------------------------------------------------------------------------------------------------------

function dial(script) {
  const { pathname } = new URL(script.url);
  const url = script.socket === null ? script.url : `ws+unix://${script.socket}:${pathname}`;
  const ws = new WebSocket(url, script.offers, {
    ca,
    headers: HEADERS,
  });
  const report = { id: script.id, pongs: [] };
  const receive = follow(ws, report);
  ws.on("upgrade", (response) => {
    report.header = response.headers["x-interop"];
  });
  ws.on("open", () => {
    report.protocol = ws.protocol;
    report.extensions = ws.extensions;
    play(ws, receive, script.steps);
  });
  ws.on("unexpected-response", async (request, response) => {
    report.status = response.statusCode;
    report.header = response.headers["x-interop"];
    const body = [];
    for await (const chunk of response) {
      body.push(chunk);
    }
    say({ ...report, body: Buffer.concat(body).toString() });
  });
}

async function main() {
  say({ ports: await listenEverywhere() });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    dial(JSON.parse(line));
  }
  process.exit(0);
}

main();
