"use strict";

// What plays the scripts in a page of Chromium; chromium_peer.py hands them to `dial`, and takes the reports from `say`.

const fromHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (digits) => parseInt(digits, 16));

const STEPS = {
  // Whole, as a browser sends no fragments.
  send(ws, isText, pieces) {
    const whole = fromHex(pieces.join(""));
    ws.send(isText ? new TextDecoder().decode(whole) : whole);
  },
};

function dial({ id, url, offers, steps }) {
  const ws = new WebSocket(url, offers);
  ws.binaryType = "arraybuffer";
  ws.onopen = () => {
    for (const [name, ...args] of steps) {
      STEPS[name](ws, ...args);
    }
  };
  ws.onmessage = ({ data }) => ws.send(data);
  ws.onclose = ({ code, reason }) => {
    const { protocol, extensions } = ws;
    say(JSON.stringify({ id, protocol, extensions, code, reason }));
  };
}
