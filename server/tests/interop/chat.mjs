// The chat in two browsers, while the server goes and comes: node chat.mjs FILE ADDRESS BROWSER
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { once } from "node:events";
import { pathToFileURL } from "node:url";
import { Page, until } from "./browser.mjs";

const { WebSocket } = createRequire(import.meta.url)("ws");

const [file, address, browser, expected = "let in"] = process.argv.slice(2);
const room = `ws://${address}/chat/lobby`;

const people = {};
for (const name of ["Ann", "Björn"]) people[name] = await Page.open(browser, pathToFileURL(file).href);
const { Ann: ann, Björn: björn } = people;

const state = (page) => page.evaluate("[state.dataset.state, state.textContent]");
const said = (page) => page.evaluate("[...lines.children].map((line) => line.textContent)");
const last = async (page) => (await said(page)).at(-1);

async function join(page, name) {
  await page.evaluate(`join.elements.address.value = "${room}"`);
  await page.enter("#join [name=name]", name);
}

async function until_state(page, expected, told) {
  const look = () => state(page);
  const [, text] = await until("state", look, ([is, text]) => is === expected && told.test(text));
  return text;
}

/** What one says arrives at all, at the one who says it as well, and once. */
async function says(name, text) {
  const before = await Promise.all(Object.values(people).map(said));
  await people[name].enter("#say input", text);
  for (const [at, page] of Object.values(people).entries()) {
    await until("what was said", () => last(page), `${name} ${text}`);
    assert.deepEqual(await said(page), [...before[at], `${name} ${text}`]);
  }
  assert.equal(await people[name].evaluate("say.elements.text.value"), "");
}

async function all_are_back() {
  for (const [name, page] of Object.entries(people)) {
    await until_state(page, "open", new RegExp(`^In ${room} as ${name}\\.$`));
  }
}

/** All say that there is no connection, keep what is being typed, and do not send it. */
async function all_notice(why) {
  for (const page of Object.values(people)) {
    await until_state(page, "waiting", why);
    const before = await said(page);
    await page.enter("#say input", "half a sentence");
    assert.equal(await page.evaluate("say.elements.text.value"), "half a sentence");
    assert.deepEqual(await said(page), before);
  }
  // They have tried again meanwhile, and say so.
  for (const page of Object.values(people)) {
    await until_state(page, "waiting", /is the server there.*Trying again in \d+\.\d s\.$/);
  }
}

// What a browser tells when it cannot connect, which no page can keep it from.
const unanswered = /^network: WebSocket connection to '[^']*' failed:/;

function nothing_was_amiss() {
  for (const page of Object.values(people)) {
    assert.deepEqual(page.complaints.filter((it) => !unanswered.test(it)), []);
    const elsewhere = page.requests.filter((it) => !/^(file|data):/.test(it));
    assert.deepEqual(elsewhere, [], "one file, and nothing from elsewhere");
  }
}

const phases = {
  async they_join() {
    const idle = [["idle", "Not connected."], ["idle", "Not connected."]];
    assert.deepEqual(await Promise.all([state(ann), state(björn)]), idle);
    await join(ann, "Ann");
    await join(björn, "Björn");
    await all_are_back();
  },

  async what_one_says_all_hear() {
    await says("Ann", "Hello, is anybody here?");
    await says("Björn", "Grüße 🌊");
  },

  async markup_is_text() {
    for (const page of Object.values(people)) await page.evaluate("var interpreted = 0");
    const image = "<img src=x onerror=interpreted++>";
    await says("Ann", `${image}<script>interpreted++</script>&lt;b&gt;`);
    await join(björn, image);
    await until_state(björn, "open", /onerror/);
    await björn.enter("#say input", "my name is markup");
    for (const page of Object.values(people)) {
      await until("the name", () => last(page), `${image} my name is markup`);
      const marks = "img, script, b > *, li > :not(b)";
      assert.equal(await page.evaluate(`lines.querySelectorAll("${marks}").length`), 0);
      assert.equal(await page.evaluate("interpreted"), 0);
    }
    await join(björn, "Björn");
    await all_are_back();
  },

  async who_does_not_speak_as_the_page_is_quoted() {
    const raw = new WebSocket(room);
    await once(raw, "open");
    for (const [message, line] of [
      ["no JSON", "? no JSON"],
      ['{"name": 1}', '? {"name": 1}'],
      ["null", "? null"],
      [Buffer.from([1, 2, 3]), "? (not text)"],
    ]) {
      raw.send(message);
      for (const page of Object.values(people)) await until("a line", () => last(page), line);
    }
    raw.terminate();
    nothing_was_amiss();
    for (const page of Object.values(people)) assert.deepEqual(page.complaints, []);
  },

  async pauses_grow_and_are_never_the_same() {
    for (let attempt = 0; attempt < 100; attempt++) {
      const most = Math.min(15_000, 500 * 2 ** attempt);
      const pauses = await ann.evaluate(`Array.from({ length: 20 }, () => pauseBefore(${attempt}))`);
      assert(pauses.every((it) => most / 2 <= it && it <= most), `${attempt}: ${pauses}`);
      assert.equal(new Set(pauses).size, pauses.length);
    }
  },

  async the_server_goes_in_order_and_comes_again() {
    console.log("stop");
    await all_notice(/^No connection \((1001 server shutting down\): it is gone|1006\))/);
    console.log("start");
    await all_are_back();
    await says("Björn", "Here we are again.");
  },

  async the_server_is_killed_and_comes_again() {
    console.log("kill");
    await all_notice(/^No connection \(1006\)/);
    console.log("start");
    await all_are_back();
    await says("Ann", "And again.");
    nothing_was_amiss();
  },
};

// Without --origin the page is told what is missing, and does not hammer.
async function is_refused() {
  await join(ann, "Ann");
  await until_state(ann, "waiting", /^No connection \(1006\): .*started with --origin null\?/);
}

try {
  if (expected === "refused") await is_refused();
  else for (const phase of Object.values(phases)) await phase();
} finally {
  await Promise.all(Object.values(people).map((page) => page.close()));
}
process.exit();
