// The chat in two browsers, across restarts of the server: node chat.mjs FILE ADDRESS BROWSER [refused]
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { once } from "node:events";
import { pathToFileURL } from "node:url";
import { Page, until } from "./browser.mjs";

const { WebSocket } = createRequire(import.meta.url)("ws");

const [file, address, browser, expected = "accepted"] = process.argv.slice(2);
const topic = `ws://${address}/chat/lobby`;

const pages = {};
for (const name of ["Ann", "Björn"]) pages[name] = await Page.open(browser, pathToFileURL(file).href);
const { Ann: ann, Björn: björn } = pages;

const state = (page) => page.evaluate("[state.dataset.state, state.textContent]");
const shown = (page) => page.evaluate("[...lines.children].map((line) => line.textContent)");
const last = async (page) => (await shown(page)).at(-1);

async function join(page, name) {
  await page.evaluate(`join.elements.address.value = "${topic}"`);
  await page.enter("#join [name=name]", name);
}

async function until_state(page, expected, pattern) {
  const look = () => state(page);
  const [, text] = await until("state", look, ([is, text]) => is === expected && pattern.test(text));
  return text;
}

/** Sends a message from one page, and asserts that all pages, including this one, show it once. */
async function say(name, text) {
  const before = await Promise.all(Object.values(pages).map(shown));
  await pages[name].enter("#say input", text);
  for (const [at, page] of Object.values(pages).entries()) {
    await until("the message", () => last(page), `${name} ${text}`);
    assert.deepEqual(await shown(page), [...before[at], `${name} ${text}`]);
  }
  assert.equal(await pages[name].evaluate("say.elements.text.value"), "");
}

async function until_all_are_open() {
  for (const [name, page] of Object.entries(pages)) {
    await until_state(page, "open", new RegExp(`^In ${topic} as ${name}\\.$`));
  }
}

/** Asserts that all pages show that there is no connection, and that they keep a typed text without sending it. */
async function until_all_wait(reason) {
  for (const page of Object.values(pages)) {
    await until_state(page, "waiting", reason);
    const before = await shown(page);
    await page.enter("#say input", "a text");
    assert.equal(await page.evaluate("say.elements.text.value"), "a text");
    assert.deepEqual(await shown(page), before);
  }
  // Meanwhile they have tried to connect again.
  for (const page of Object.values(pages)) {
    await until_state(page, "waiting", /is the server there.*Trying again in \d+\.\d s\.$/);
  }
}

// The browser logs each failed connection; a page cannot suppress that.
const failedConnection = /^network: WebSocket connection to '[^']*' failed:/;

function assert_no_messages() {
  for (const page of Object.values(pages)) {
    assert.deepEqual(page.messages.filter((it) => !failedConnection.test(it)), []);
    const elsewhere = page.requests.filter((it) => !/^(file|data):/.test(it));
    assert.deepEqual(elsewhere, [], "the page loads another file");
  }
}

const phases = {
  async both_connect() {
    const idle = [["idle", "Not connected."], ["idle", "Not connected."]];
    assert.deepEqual(await Promise.all([state(ann), state(björn)]), idle);
    await join(ann, "Ann");
    await join(björn, "Björn");
    await until_all_are_open();
  },

  async all_pages_show_each_message() {
    await say("Ann", "Hello, is anybody here?");
    await say("Björn", "Grüße 🌊");
  },

  async markup_is_shown_as_text() {
    for (const page of Object.values(pages)) await page.evaluate("var interpreted = 0");
    const image = "<img src=x onerror=interpreted++>";
    await say("Ann", `${image}<script>interpreted++</script>&lt;b&gt;`);
    await join(björn, image);
    await until_state(björn, "open", /onerror/);
    await björn.enter("#say input", "my name is markup");
    for (const page of Object.values(pages)) {
      await until("the name", () => last(page), `${image} my name is markup`);
      const marks = "img, script, b > *, li > :not(b)";
      assert.equal(await page.evaluate(`lines.querySelectorAll("${marks}").length`), 0);
      assert.equal(await page.evaluate("interpreted"), 0);
    }
    await join(björn, "Björn");
    await until_all_are_open();
  },

  async messages_of_other_clients_are_quoted() {
    const raw = new WebSocket(topic);
    await once(raw, "open");
    for (const [message, line] of [
      ["no JSON", "? no JSON"],
      ['{"name": 1}', '? {"name": 1}'],
      ["null", "? null"],
      [Buffer.from([1, 2, 3]), "? (not text)"],
    ]) {
      raw.send(message);
      for (const page of Object.values(pages)) await until("a line", () => last(page), line);
    }
    raw.terminate();
    assert_no_messages();
    for (const page of Object.values(pages)) assert.deepEqual(page.messages, []);
  },

  async pauses_grow_and_differ() {
    for (let attempt = 0; attempt < 100; attempt++) {
      const most = Math.min(15_000, 500 * 2 ** attempt);
      const pauses = await ann.evaluate(`Array.from({ length: 20 }, () => pauseBefore(${attempt}))`);
      assert(pauses.every((it) => most / 2 <= it && it <= most), `${attempt}: ${pauses}`);
      assert.equal(new Set(pauses).size, pauses.length);
    }
  },

  async pages_reconnect_after_a_drain() {
    console.log("stop");
    await until_all_wait(/^No connection \((1001 server shutting down\): it is gone|1006\))/);
    console.log("start");
    await until_all_are_open();
    await say("Björn", "Here we are again.");
  },

  async pages_reconnect_after_a_kill() {
    console.log("kill");
    await until_all_wait(/^No connection \(1006\)/);
    console.log("start");
    await until_all_are_open();
    await say("Ann", "And again.");
    assert_no_messages();
  },
};

// Without --origin, the page shows the missing flag, and waits before it connects again.
async function shows_rejection() {
  await join(ann, "Ann");
  await until_state(ann, "waiting", /^No connection \(1006\): .*started with --origin null\?/);
}

try {
  if (expected === "refused") await shows_rejection();
  else for (const phase of Object.values(phases)) await phase();
} finally {
  await Promise.all(Object.values(pages).map((page) => page.close()));
}
process.exit();
