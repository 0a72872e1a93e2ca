// Node.js `ws` as a client: node node_ws.mjs URL CASE
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { once } from "node:events";
import { randomBytes } from "node:crypto";

// Where `ws` is installed is told by NODE_PATH, which only `require` looks at.
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
  async talk(ws) {
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

  async compress(ws) {
    assert.match(ws.extensions, /permessage-deflate/);
    const messages = ["", "tide ".repeat(20000), randomBytes(5000), Buffer.from("wheel".repeat(200000))];
    for (const message of messages) {
      ws.send(message);
      assert.deepEqual(await received(ws), message);
    }
    ws.close(1000);
    await closedWith(ws, 1000);
  },

  async stay(ws) {
    // It answers pings by itself; five of them take longer than the server would wait.
    for (let pings = 0; pings < 5; pings++) await once(ws, "ping");
    ws.send("still here");
    assert.equal(await received(ws), "still here");
    ws.close(1000);
    await closedWith(ws, 1000);
  },

  async leave(ws) {
    ws.send("ready");
    console.log(await received(ws));
    await closedWith(ws, 1001, "server shutting down");
  },

  async too_big(ws) {
    ws.send(Buffer.alloc(MIB + 1));
    await closedWith(ws, 1009);
  },

  async bad_text(ws) {
    ws.send(Buffer.from("cebae1bdb9cf83cebcceb5eda080", "hex"), { binary: false });
    await closedWith(ws, 1007);
  },
};

const ws = new WebSocket(url, { perMessageDeflate: name === "compress" });
await once(ws, "open");
await cases[name](ws);
