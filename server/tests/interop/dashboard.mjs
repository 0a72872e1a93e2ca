// The dashboard in a browser, with clients whose activity it has to show:
// node dashboard.mjs URL ADMIN BROWSER
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { once } from "node:events";
import { Page, until } from "./browser.mjs";

const { WebSocket } = createRequire(import.meta.url)("ws");

const [url, admin, browser] = process.argv.slice(2);

/** Bound of the page's cumulative layout shift. */
const LAYOUT_SHIFT_MAX = 0.1;

const page = await Page.open(browser, `http://${admin}/`, ["--window-size=1280,1050"]);

const state = () => page.evaluate("document.body.dataset.state");
const shown = (name) =>
  page.evaluate(`document.querySelector('[data-value="${name}"]').textContent`);

/** Returns the texts of a table's rows, by the first cell of each row. */
async function table(name) {
  const rows = await page.evaluate(`
    [...document.querySelectorAll('[data-table="${name}"] tbody tr')]
      .map((row) => [...row.cells].map((cell) => cell.textContent))`);
  return Object.fromEntries(rows.map(([head, ...cells]) => [head, cells]));
}

async function open(options) {
  const ws = new WebSocket(url, options);
  await once(ws, "open");
  return ws;
}

const clients = [];

const phases = {
  async no_connections() {
    await until("state", state, "serving");
    assert.equal(await shown("status"), "Serving.");
    assert.equal(await shown("host"), admin);
    assert.match(await shown("version"), /^\d+\.\d+\.\d+/);
    await until("connections", () => shown("connections"), "0");
  },

  async connections_open() {
    for (let at = 0; at < 7; at++) clients.push(await open());
    await until("connections", () => shown("connections"), "7");
    const shards = Object.values(await table("shards"));
    assert.equal(shards.length, 2);
    assert.equal(shards.reduce((sum, [connections]) => sum + Number(connections), 0), 7);
  },

  // A displayed rate is the average of one second, so it is close to the real rate.
  async message_rates() {
    let sent = 0;
    const message = "x".repeat(1024);
    const sending = setInterval(() => {
      clients[0].send(message);
      sent += 1;
    }, 10);
    const real = { at: performance.now(), sent };
    for (const name of ["messages_received", "messages_sent"]) {
      await until(name, () => shown(name), (text) => {
        const rate = (1000 * (sent - real.sent)) / (performance.now() - real.at);
        const isNew = performance.now() - real.at > 2000;
        return isNew && Math.abs(Number(text.replace(",", "")) - rate) < 0.2 * rate;
      });
    }
    await until("payload", () => shown("received_bytes"), (text) => text.endsWith(" KiB"));
    clearInterval(sending);
    for (const name of ["messages_received", "messages_sent"]) {
      await until(name, () => shown(name), "0");
    }
    // The area below the chart's line is the number of messages.
    const area = await page.evaluate(`charts.messages.points.reduce((sum, point, at, points) =>
      sum + (point.values[0] ?? 0) * (point.at - points[Math.max(0, at - 1)].at), 0)`);
    assert.equal(Math.round(area), sent);
    assert.notEqual(await page.evaluate("charts.messages.paths[0].getAttribute('d')"), "");
  },

  async pings_are_answered() {
    const slow = await open({ autoPong: false });
    slow.on("ping", (payload) => setTimeout(() => slow.pong(payload), 300));
    const times = () => Promise.all(["ping_p50", "ping_p99"].map(shown));
    // Seven clients answer at once, one answers after 300 ms.
    await until("ping round trips", times, ([median, most]) => {
      const [, at_most, unit] = /^≤ (\S+) (ms|s)$/.exec(most) ?? [];
      const most_ms = Number(at_most) * (unit === "s" ? 1000 : 1);
      return /^≤ \S+ (ms|s)$/.test(median) && most_ms >= 500;
    });
    assert.match(await shown("turn_p50"), /^[≤>] \S+ (µs|ms|s)$/);
    slow.terminate();
    const cause = async () => (await table("closes_total"))["eof without close"];
    await until("closes", async () => (await cause()).join(), "1,1");
  },

  async connections_close() {
    for (const client of clients.splice(0, 3)) client.close(1000);
    const cause = async () => (await table("closes_total"))["peer close"];
    await until("closes", async () => (await cause()).join(), "3,3");
    await until("connections", () => shown("connections"), "4");
  },

  async rejections_are_counted() {
    await fetch(url.replace("ws:", "http:"));
    const reason = async () => (await table("rejections_total")).request;
    await until("rejections", async () => (await reason()).join(), "1,1");
  },

  async no_messages_and_no_foreign_requests() {
    assert.deepEqual(page.messages, []);
    const isOurs = (it) => it.startsWith("data:") || new URL(it).host === admin;
    const elsewhere = page.requests.filter((it) => !isOurs(it));
    assert.deepEqual(elsewhere, []);
    const shift = await page.evaluate(`new Promise((resolve) => {
      const add = (list) => resolve(list.getEntries().reduce((sum, { value }) => sum + value, 0));
      new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });
      setTimeout(resolve, 1000, 0);
    })`);
    assert(shift < LAYOUT_SHIFT_MAX, `the layout shift is ${shift}`);
  },

  async drain() {
    // A client that does not answer the Close keeps the server running.
    clients[0].pause();
    console.log("drain");
    await until("state", state, "draining");
    assert.match(await shown("status"), /^Draining/);
    await until("connections", () => shown("connections"), "1");
    assert.deepEqual(page.messages, []);
    clients[0].terminate();
  },

  async restart() {
    await until("state", state, "gone");
    assert.match(await shown("status"), /^Not reachable since \d\d:\d\d:\d\d\./);
    assert.equal(await page.evaluate("document.title"), "not reachable – Tidewheel");
    console.log("restart");
    await until("state", state, "serving");
    assert.match(await shown("status"), /^Serving\. Restarted at \d\d:\d\d:\d\d\.$/);
    await until("opens", () => shown("opens"), "0");
    // The counters start again, and no rate is negative.
    const cells = (name) => table(name).then((rows) => Object.values(rows).flat());
    const counts = [...(await cells("closes_total")), ...(await cells("rejections_total"))];
    assert.deepEqual(new Set(counts), new Set(["0"]));
    const drawn = await page.evaluate(`
      Object.values(charts).flatMap(({ points }) => points.flatMap(({ values }) => values))`);
    assert(drawn.every((value) => value === null || value >= 0));
    const failedRequest = /^network: .*net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|EMPTY_RESPONSE)/;
    assert.deepEqual(page.messages.filter((it) => !failedRequest.test(it)), []);
  },
};

try {
  for (const phase of Object.values(phases)) await phase();
} finally {
  await page.close();
}
// Clients of a server that has ended may still be open.
process.exit();
