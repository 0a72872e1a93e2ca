// Node.js `ws` as a client: node node_ws.mjs URL CASE
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { once } from "node:events";
import { randomBytes } from "node:crypto";

// NODE_PATH names the folder of `ws`; only `require` uses it.
const { WebSocket } = createRequire(import.meta.url)("ws");

const MIB = 1 << 20;
const [url, name] = process.argv.slice(2);

const received = async (ws) => {
  const [data, isBinary] = await once(ws, "message");
  return isBinary ? data : data.toString();
};

const closedWith = async (ws, code, reason) => {
  const [gotCode, gotReason] = await once(ws, "close");
  assert.equal(gotCode, code);
  if (reason !== undefined) assert.equal(gotReason.toString(), reason);
};

const cases = {
  async echo(ws) {
    const big = randomBytes(MIB);
    for (const message of ["", "hello", "grüße 🌊".repeat(1000), "x".repeat(MIB), Buffer.from([0, 255]), big]) {
      ws.send(message);
      assert.deepEqual(await received(ws), message);
    }
    ws.send("fra", { fin: false });
    ws.send("gments", { fin: true });
    assert.equal(await received(ws), "fragments");
    for (const payload of ["", "ping", "p".repeat(125)]) {
      ws.ping(payload);
      const [pong] = await once(ws, "pong");
      assert.equal(pong.toString(), payload);
    }
    ws.close(3999, "enough");
    await closedWith(ws, 3999);
  },

  async compression(ws) {
    assert.match(ws.extensions, /permessage-deflate/);
    const messages = ["", "tide ".repeat(20000), randomBytes(5000), Buffer.from("wheel".repeat(200000))];
    for (const message of messages) {
      ws.send(message);
      assert.deepEqual(await received(ws), message);
    }
    ws.close(1000);
    await closedWith(ws, 1000);
  },

  async keepalive(ws) {
    // The library answers Pings; five of them take longer than the ping timeout.
    for (let pings = 0; pings < 5; pings++) await once(ws, "ping");
    ws.send("hello");
    assert.equal(await received(ws), "hello");
    ws.close(1000);
    await closedWith(ws, 1000);
  },

  async drain(ws) {
    ws.send("ready");
    console.log(await received(ws));
    await closedWith(ws, 1001, "server shutting down");
  },

  async too_big(ws) {
    ws.send(Buffer.alloc(MIB + 1));
    await closedWith(ws, 1009);
  },

  async invalid_text(ws) {
    ws.send(Buffer.from("cebae1bdb9cf83cebcceb5eda080", "hex"), { binary: false });
    await closedWith(ws, 1007);
  },
};

const ws = new WebSocket(url, { perMessageDeflate: name === "compression" });
await once(ws, "open");
await cases[name](ws);
