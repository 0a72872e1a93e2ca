// A headless Chromium with one page, controlled by the Chrome DevTools Protocol over a pipe. It ends
// when the pipe is closed.
import assert from "node:assert/strict";
import { once } from "node:events";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--remote-debugging-pipe",
];

const DOMAINS = ["Page", "Runtime", "Log", "Network"];

/** Longest time until a page shows an expected value, also on a busy machine. */
const TIMEOUT_MS = 30_000;
const POLL_INTERVAL_MS = 100;

/** Calls `look` until it returns the expected value, and returns that. */
export async function until(what, look, expected) {
  const end = performance.now() + TIMEOUT_MS;
  const matches = typeof expected === "function" ? expected : (it) => it === expected;
  for (;;) {
    const got = await look();
    if (matches(got)) return got;
    assert(performance.now() < end, `${what}: the page shows ${JSON.stringify(got)}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
}

export class Page {
  /** Messages of the console and of the browser's log, and uncaught exceptions. */
  messages = [];
  /** URLs of all requests. */
  requests = [];
  #next = 1;
  #answers = new Map();
  #loaded = () => {};
  #commands;
  #events;
  #rest = "";

  static async open(program, url, flags = []) {
    const page = new Page();
    page.profile = mkdtempSync(join(tmpdir(), "tidewheel-browser-"));
    const all = [...FLAGS, ...flags, `--user-data-dir=${page.profile}`, "about:blank"];
    const stdio = ["ignore", "ignore", "ignore", "pipe", "pipe"];
    page.browser = spawn(program, all, { stdio });
    [, , , page.#commands, page.#events] = page.browser.stdio;
    page.#events.setEncoding("utf8").on("data", (text) => page.#read(text));
    const { targetInfos } = await page.send("Target.getTargets");
    const { targetId } = targetInfos.find(({ type }) => type === "page");
    const attached = await page.send("Target.attachToTarget", { targetId, flatten: true });
    page.session = attached.sessionId;
    for (const domain of DOMAINS) await page.send(`${domain}.enable`);
    const loaded = new Promise((resolve) => (page.#loaded = resolve));
    await page.send("Page.navigate", { url });
    await loaded;
    return page;
  }

  send(method, params = {}) {
    const id = this.#next++;
    this.#commands.write(`${JSON.stringify({ id, method, params, sessionId: this.session })}\0`);
    return new Promise((resolve, reject) => this.#answers.set(id, { resolve, reject }));
  }

  /** Messages end with a zero byte. */
  #read(text) {
    const messages = (this.#rest + text).split("\0");
    this.#rest = messages.pop();
    for (const message of messages) this.#handle(JSON.parse(message));
  }

  #handle({ id, result, error, method, params }) {
    if (id !== undefined) {
      const { resolve, reject } = this.#answers.get(id);
      this.#answers.delete(id);
      return error ? reject(new Error(error.message)) : resolve(result);
    }
    switch (method) {
      case "Page.loadEventFired":
        return this.#loaded();
      case "Runtime.exceptionThrown":
        return this.messages.push(params.exceptionDetails.exception?.description);
      case "Runtime.consoleAPICalled":
        return this.messages.push(params.args.map(({ value }) => value).join(" "));
      case "Log.entryAdded":
        return this.messages.push(`${params.entry.source}: ${params.entry.text}`);
      case "Network.requestWillBeSent":
        return this.requests.push(params.request.url);
    }
  }

  /** Returns the value of an expression in the page. */
  async evaluate(expression) {
    const options = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", options);
    if (exceptionDetails) throw new Error(exceptionDetails.exception.description);
    return result.value;
  }

  /** Replaces the text of an element as a user does, and presses Enter. */
  async enter(selector, text) {
    await this.evaluate(`document.querySelector(${JSON.stringify(selector)}).select()`);
    await this.send("Input.insertText", { text });
    const key = { key: "Enter", code: "Enter", windowsVirtualKeyCode: 13 };
    await this.send("Input.dispatchKeyEvent", { type: "keyDown", text: "\r", ...key });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...key });
  }

  async close() {
    const ended = once(this.browser, "exit");
    this.#commands.end();
    await ended;
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
