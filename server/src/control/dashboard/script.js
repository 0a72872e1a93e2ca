// Asks for /metrics once a second, keeps two minutes of it, and shows what it comes to.
"use strict";

const POLL_MS = 1000;
/** An answer that takes longer is none. */
const PATIENCE_MS = 4000;
/** As far back as charts reach, and what is kept. */
const HISTORY_S = 120;
const MINUTE_S = 60;
/** Turns are many: the times of fewer seconds tell what is now. */
const TURNS_S = 10;

const EVENTS = {
  handshake_timeouts_total: "no request in time",
  deadline_resets_total: "reset at the close deadline",
  receive_pauses_total: "reading paused",
  starvations_total: "no receive buffer free",
  accept_pauses_total: "accepting paused",
};

// What the server says.

const LINE = /^tidewheel_(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="([^"]*)"/g;

/** The figures of one moment: for each shard, and summed up. Besides its shard a figure has at
 * most one label, whose value becomes part of its name: `closes_total{reset}`. */
function parse(text, at) {
  const sample = { at, all: new Map(), shards: new Map() };
  for (const line of text.split("\n")) {
    const match = LINE.exec(line);
    if (!match) continue;
    const [, metric, labels = "", value] = match;
    let shard;
    let name = metric;
    for (const [, key, label] of labels.matchAll(LABEL)) {
      if (key === "shard") shard = label;
      else name = `${metric}{${label}}`;
    }
    sample.all.set(name, (sample.all.get(name) ?? 0) + Number(value));
    if (shard === undefined) continue;
    if (!sample.shards.has(shard)) sample.shards.set(shard, new Map());
    sample.shards.get(shard).set(name, Number(value));
  }
  return sample;
}

const isCounter = (name) => /_(total|count|bucket)(\{|$)/.test(name);

/** Whether `after` is of another process than `before`: something counted went backwards. */
function isRestart(before, after) {
  if (before.shards.size !== after.shards.size) return true;
  for (const [shard, figures] of before.shards) {
    const later = after.shards.get(shard);
    if (!later) return true;
    for (const [name, value] of figures) {
      if (isCounter(name) && !(later.get(name) >= value)) return true;
    }
  }
  return false;
}

/** The values of a metric by its label. */
function byLabel(sample, metric) {
  const values = new Map();
  for (const [name, value] of sample.all) {
    if (name.startsWith(`${metric}{`)) values.set(name.slice(metric.length + 1, -1), value);
  }
  return values;
}

/** What a counter has grown by between two moments. */
const grown = (before, after, name) => after.get(name) - before.get(name);

const sum = (values) => [...values].reduce((total, value) => total + value, 0);

/** The upper bound of the bucket that holds the quantile `q` of what was counted meanwhile; and
 * the bound below it, which is what is known where there is no upper one. */
function quantile(before, after, metric, q) {
  const old = byLabel(before, `${metric}_bucket`);
  const buckets = [...byLabel(after, `${metric}_bucket`)].map(([bound, count]) => ({
    bound: bound === "+Inf" ? Infinity : Number(bound),
    count: count - old.get(bound),
  }));
  const all = buckets.at(-1).count;
  if (all === 0) return null;
  const at = buckets.findIndex(({ count }) => count >= q * all);
  return { bound: buckets[at].bound, below: at > 0 ? buckets[at - 1].bound : 0 };
}

// How figures are written.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

const count = (value) => (value < 1e6 ? whole : short).format(value);
const rate = (value) => (value < 100 ? tenths : value < 1e6 ? whole : short).format(value);
const percent = (value) => `${tenths.format(100 * value)} %`;

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; value >= 1024 && at < units.length - 1; at++) value /= 1024;
  return `${(at === 0 ? whole : tenths).format(value)} ${units[at]}`;
}

function seconds(value) {
  if (value < 0.001) return `${tenths.format(value * 1e6)} µs`;
  if (value < 1) return `${tenths.format(value * 1e3)} ms`;
  return `${tenths.format(value)} s`;
}

const upTo = ({ bound, below }) =>
  bound === Infinity ? `> ${seconds(below)}` : `≤ ${seconds(bound)}`;

// Where figures are shown.

const find = (attribute, value) => document.querySelector(`[data-${attribute}="${value}"]`);

function show(name, text) {
  const element = find("value", name);
  // Left alone while it says the same, so that it can be selected, and is not told again.
  if (element.textContent !== text) element.textContent = text;
}

/** Shows a figure; what is not known yet is a dash. */
const told = (value, format) => (value === null || value === undefined ? "–" : format(value));
const figure = (name, value, format) => show(name, told(value, format));

/** Rows of a table, by the name that each begins with; `cells` are texts, or what makes a cell. */
function rows(table, names, cells) {
  const body = find("table", table).tBodies[0];
  while (body.rows.length > names.length) body.deleteRow(-1);
  names.forEach((name, at) => {
    const row = body.rows[at] ?? body.insertRow();
    if (row.cells.length === 0) {
      const head = document.createElement("th");
      head.scope = "row";
      row.append(head);
    }
    const texts = [name.replaceAll("_", " "), ...cells(name, row)];
    texts.forEach((text, column) => {
      const cell = row.cells[column] ?? row.insertCell();
      const place = cell.querySelector("span") ?? cell;
      if (place.textContent !== text) place.textContent = text;
    });
  });
}

// Charts.

/** The least round figure that is not below `value`: of bytes a power of two, of others one of 1,
 * 2, 5, 10 and so on. */
function ceiling(value, format) {
  if (format === bytes) return 2 ** Math.ceil(Math.log2(value));
  const decade = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * decade).find((step) => step >= value * (1 - 1e-9));
}

class Chart {
  /** `lines` are names of figures in the card; `least` is what the scale ends with at least. */
  constructor(card, lines, format, least) {
    Object.assign(this, { lines, format, least, points: [] });
    const element = find("card", card);
    const box = element.querySelector(".chart");
    const title = element.querySelector("h2").textContent;
    const make = (name, parent, attributes) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      parent.append(made);
      return made;
    };
    const svg = make("svg", box, {
      viewBox: `0 0 ${HISTORY_S} 1`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `${title}: the last two minutes`,
    });
    this.area = lines.length === 1 ? make("path", svg, { class: "area" }) : null;
    this.paths = lines.map((_, at) => make("path", svg, { class: `line-${at}` }));
    this.scale = document.createElement("span");
    this.scale.className = "scale";
    box.append(this.scale);
  }

  /** Adds what was at `at`; a value that is not known leaves a gap. */
  add(at, values) {
    this.points.push({ at, values: values.map((value) => value ?? null) });
    while (this.points[0].at < at - HISTORY_S) this.points.shift();
  }

  draw(now) {
    const known = this.points.flatMap(({ values }) => values).filter((value) => value !== null);
    const top = Math.max(this.least, ceiling(Math.max(...known, this.least), this.format));
    this.scale.textContent = this.format(top);
    const x = (point) => (HISTORY_S + point.at - now).toFixed(2);
    this.paths.forEach((path, line) => {
      let d = "";
      let area = "";
      let begun = null;
      const end = () => {
        if (begun) area += `V1H${x(begun)}Z`;
        begun = null;
      };
      for (const point of this.points) {
        const value = point.values[line];
        if (value === null) {
          end();
          continue;
        }
        const place = `${x(point)},${(1 - value / top).toFixed(4)}`;
        d += `${begun ? "L" : "M"}${place}`;
        area += `${begun ? "L" : "M"}${place}`;
        begun ??= point;
      }
      end();
      path.setAttribute("d", d);
      if (this.area) this.area.setAttribute("d", area);
    });
  }
}

const charts = {
  connections: new Chart("connections", ["connections"], count, 10),
  turnover: new Chart("turnover", ["opens", "closes"], rate, 10),
  messages: new Chart("messages", ["messages_received", "messages_sent"], rate, 10),
  payload: new Chart("payload", ["received_bytes", "sent_bytes"], bytes, 1024),
  pings: new Chart("pings", ["ping_p50", "ping_p99"], seconds, 0.01),
  turns: new Chart("turns", ["turn_p50", "turn_p99"], seconds, 0.0001),
  busy: new Chart("busy", ["busy_mean", "busy_max"], percent, 0.01),
  queues: new Chart("queues", ["send_queue_bytes"], bytes, 1024),
};

// From samples to figures.

/** Of the running process, oldest first. */
let samples = [];

/** The newest sample that is at least so many seconds older than the last, or the oldest. */
function before(age) {
  const limit = samples.at(-1).at - age;
  return samples.findLast(({ at }) => at <= limit) ?? samples[0];
}

/** What is known of the last second. */
function recent(now, last) {
  const elapsed = now.at - last.at;
  const perSecond = (name) => grown(last.all, now.all, name) / elapsed;
  const busy = [...now.shards].map(
    ([shard, figures]) => grown(last.shards.get(shard), figures, "turn_seconds_sum") / elapsed,
  );
  const closes = (sample) => sum(byLabel(sample, "closes_total").values());
  return {
    opens: perSecond("opens_total"),
    closes: (closes(now) - closes(last)) / elapsed,
    messages_received: perSecond("messages_received_total"),
    messages_sent: perSecond("messages_sent_total"),
    received_bytes: perSecond("received_bytes_total"),
    sent_bytes: perSecond("sent_bytes_total"),
    turns: perSecond("turn_seconds_count"),
    busy_mean: sum(busy) / busy.length,
    busy_max: Math.max(...busy),
  };
}

function showFigures(now, last) {
  const figures = last ? recent(now, last) : {};
  figure("connections", now.all.get("connections"), count);
  figure("send_queue_bytes", now.all.get("send_queue_bytes"), bytes);
  for (const name of ["opens", "closes", "messages_received", "messages_sent", "turns"]) {
    figure(name, figures[name], rate);
  }
  for (const name of ["received_bytes", "sent_bytes"]) figure(name, figures[name], bytes);
  for (const name of ["busy_mean", "busy_max"]) figure(name, figures[name], percent);

  const minute = before(MINUTE_S);
  const ping = (q) => quantile(minute, now, "ping_round_trip_seconds", q);
  const turn = (q) => quantile(before(TURNS_S), now, "turn_seconds", q);
  const times = {
    ping_p50: ping(0.5),
    ping_p90: ping(0.9),
    ping_p99: ping(0.99),
    turn_p50: turn(0.5),
    turn_p99: turn(0.99),
  };
  for (const [name, time] of Object.entries(times)) figure(name, time, upTo);

  const drawn = (name) => {
    const time = times[name];
    return time && (time.bound === Infinity ? time.below : time.bound);
  };
  charts.connections.add(now.at, [now.all.get("connections")]);
  charts.turnover.add(now.at, [figures.opens, figures.closes]);
  charts.messages.add(now.at, [figures.messages_received, figures.messages_sent]);
  charts.payload.add(now.at, [figures.received_bytes, figures.sent_bytes]);
  charts.pings.add(now.at, [drawn("ping_p50"), drawn("ping_p99")]);
  charts.turns.add(now.at, [drawn("turn_p50"), drawn("turn_p99")]);
  charts.busy.add(now.at, [figures.busy_mean, figures.busy_max]);
  charts.queues.add(now.at, [now.all.get("send_queue_bytes")]);
}

function showTables(now, last) {
  const minute = before(MINUTE_S);
  const counted = (name, row) => {
    const total = now.all.get(name);
    row.classList.toggle("nothing", total === 0);
    return [count(grown(minute.all, now.all, name)), count(total)];
  };
  for (const metric of ["closes_total", "rejections_total"]) {
    const labels = [...byLabel(now, metric).keys()];
    rows(metric, labels, (label, row) => counted(`${metric}{${label}}`, row));
  }
  const events = Object.keys(EVENTS);
  rows("events", Object.values(EVENTS), (_, row) => counted(events[row.sectionRowIndex], row));

  const most = Math.max(1, ...[...now.shards.values()].map((shard) => shard.get("connections")));
  rows("shards", [...now.shards.keys()], (shard, row) => {
    const figures = now.shards.get(shard);
    share(row, figures.get("connections"), most);
    const perSecond = (name) =>
      last ? grown(last.shards.get(shard), figures, name) / (now.at - last.at) : null;
    return [
      count(figures.get("connections")),
      told(perSecond("messages_received_total"), rate),
      told(perSecond("messages_sent_total"), rate),
      told(perSecond("turn_seconds_sum"), percent),
    ];
  });
}

/** A bar beside a shard's connections, that tells how evenly they are spread. */
function share(row, value, most) {
  let meter = row.querySelector("meter");
  if (!meter) {
    meter = document.createElement("meter");
    meter.setAttribute("aria-hidden", "true");
    row.insertCell().append(meter, document.createElement("span"));
  }
  meter.max = most;
  meter.value = value;
}

// Once a second.

const clock = () => performance.now() / 1000;
const timeOfDay = () => new Date().toTimeString().slice(0, 8);
const DRAINING = "Draining: it takes nobody any more, and closes every connection.";
const title = (state) => (document.title = state ? `${state} – Tidewheel` : "Tidewheel");

/** When the server did not answer for the first time, since it last did. */
let goneSince = null;
/** When another process was first seen in its place. */
let anewSince = null;

function received(sample) {
  const restarted = samples.length > 0 && isRestart(samples.at(-1), sample);
  if (restarted) {
    samples = [];
    anewSince = timeOfDay();
  }
  if (restarted || goneSince !== null) gap();
  goneSince = null;
  const last = samples.at(-1);
  samples.push(sample);
  while (samples[0].at < sample.at - HISTORY_S) samples.shift();
  showFigures(sample, last);
  showTables(sample, last);
  // Only the newest is asked for its shards.
  if (last) last.shards = null;

  const [version] = byLabel(sample, "build_info").keys();
  show("version", version);
  show("time", timeOfDay());
  const draining = sample.all.get("draining") === 1;
  document.body.dataset.state = draining ? "draining" : "serving";
  const serving = anewSince ? `Serving, anew since ${anewSince}.` : "Serving.";
  show("status", draining ? DRAINING : serving);
  title(draining ? "draining" : "");
}

function failed() {
  goneSince ??= timeOfDay();
  document.body.dataset.state = "gone";
  const known = samples.length > 0 ? " What is shown is what was last known." : "";
  show("status", `Not reachable since ${goneSince}.${known}`);
  title("not reachable");
}

/** Nothing is known of the time before now. */
function gap() {
  const now = clock();
  for (const chart of Object.values(charts)) chart.add(now, chart.lines.map(() => null));
}

/** The figures of this moment; null if there is no answer, or half of one. */
async function ask() {
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const response = await fetch("/metrics", {
      cache: "no-store",
      // It ends with a mark, so that an answer that was cut short is known as such.
      headers: { Accept: "application/openmetrics-text; version=1.0.0" },
      signal,
    });
    const text = await response.text();
    return response.ok && text.endsWith("# EOF\n") ? parse(text, clock()) : null;
  } catch {
    return null;
  }
}

async function poll() {
  const began = clock();
  try {
    const sample = await ask();
    if (sample) received(sample);
    else failed();
    for (const chart of Object.values(charts)) chart.draw(clock());
  } finally {
    setTimeout(poll, Math.max(0, POLL_MS - 1000 * (clock() - began)));
  }
}

show("host", location.host);
poll();
