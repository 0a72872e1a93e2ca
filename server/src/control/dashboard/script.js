// Polls /metrics once a second, keeps two minutes of samples, and shows rates and quantiles.
"use strict";

const POLL_MS = 1000;
/** A poll without a response in this time has failed. */
const POLL_TIMEOUT_MS = 4000;
/** The time span of charts, and of the samples that are kept. */
const HISTORY_S = 120;
const MINUTE_S = 60;
/** The time span of the quantiles of turns. It is short, because turns are frequent. */
const TURNS_S = 10;

const EVENTS = {
  handshake_timeouts_total: "handshake timeout",
  deadline_resets_total: "reset at the close timeout",
  receive_pauses_total: "reading paused",
  starvations_total: "no free receive buffer",
  accept_pauses_total: "accepting paused",
};

// Parsing of metrics.

const LINE = /^tidewheel_(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="([^"]*)"/g;

/** Parses a sample: the value of each metric, for each shard and summed up. A metric has at most one label
 * beside its shard, whose value becomes part of the name: `closes_total{reset}`. */
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

/** Whether `after` is from another process than `before`: a counter has decreased. */
function isRestart(before, after) {
  if (before.shards.size !== after.shards.size) return true;
  for (const [shard, values] of before.shards) {
    const later = after.shards.get(shard);
    if (!later) return true;
    for (const [name, value] of values) {
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

/** The increase of a counter between two samples. */
const increase = (before, after, name) => after.get(name) - before.get(name);

const sum = (values) => [...values].reduce((total, value) => total + value, 0);

/** The quantile `q` of a histogram between two samples: the upper bound of its bucket, and the bound below it,
 * which is all that is known of the last bucket. */
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

// Formatting.

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

// Display of values.

const find = (attribute, value) => document.querySelector(`[data-${attribute}="${value}"]`);

function show(name, text) {
  const element = find("value", name);
  // An equal text is left alone, so that it can be selected, and screen readers do not repeat it.
  if (element.textContent !== text) element.textContent = text;
}

/** Formats a value; a dash stands for an unknown one. */
const formatted = (value, format) => (value === null || value === undefined ? "–" : format(value));
const showValue = (name, value, format) => show(name, formatted(value, format));

/** Fills a table: a row for each name, with the name and the texts that `cells` returns. */
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

/** Rounds up: bytes to a power of two, other values to 1, 2 or 5 times a power of ten. */
function ceiling(value, format) {
  if (format === bytes) return 2 ** Math.ceil(Math.log2(value));
  const decade = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * decade).find((step) => step >= value * (1 - 1e-9));
}

class Chart {
  /** `lines` are the names of the values; `topMin` is the minimum of the upper end of the scale. */
  constructor(card, lines, format, topMin) {
    Object.assign(this, { lines, format, topMin, points: [] });
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

  /** Adds the values at a time; an unknown value leaves a gap. */
  add(at, values) {
    this.points.push({ at, values: values.map((value) => value ?? null) });
    while (this.points[0].at < at - HISTORY_S) this.points.shift();
  }

  draw(now) {
    const known = this.points.flatMap(({ values }) => values).filter((value) => value !== null);
    const top = Math.max(this.topMin, ceiling(Math.max(...known, this.topMin), this.format));
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

// From samples to values.

/** The samples of the running process, oldest first. */
let samples = [];

/** The newest sample that is at least `age` seconds older than the last, or the oldest. */
function before(age) {
  const limit = samples.at(-1).at - age;
  return samples.findLast(({ at }) => at <= limit) ?? samples[0];
}

/** The rates between the last two samples. */
function rates(now, last) {
  const elapsed = now.at - last.at;
  const perSecond = (name) => increase(last.all, now.all, name) / elapsed;
  const busy = [...now.shards].map(
    ([shard, values]) => increase(last.shards.get(shard), values, "turn_seconds_sum") / elapsed,
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

function showValues(now, last) {
  const values = last ? rates(now, last) : {};
  showValue("connections", now.all.get("connections"), count);
  showValue("send_queue_bytes", now.all.get("send_queue_bytes"), bytes);
  for (const name of ["opens", "closes", "messages_received", "messages_sent", "turns"]) {
    showValue(name, values[name], rate);
  }
  for (const name of ["received_bytes", "sent_bytes"]) showValue(name, values[name], bytes);
  for (const name of ["busy_mean", "busy_max"]) showValue(name, values[name], percent);

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
  for (const [name, time] of Object.entries(times)) showValue(name, time, upTo);

  const drawn = (name) => {
    const time = times[name];
    return time && (time.bound === Infinity ? time.below : time.bound);
  };
  charts.connections.add(now.at, [now.all.get("connections")]);
  charts.turnover.add(now.at, [values.opens, values.closes]);
  charts.messages.add(now.at, [values.messages_received, values.messages_sent]);
  charts.payload.add(now.at, [values.received_bytes, values.sent_bytes]);
  charts.pings.add(now.at, [drawn("ping_p50"), drawn("ping_p99")]);
  charts.turns.add(now.at, [drawn("turn_p50"), drawn("turn_p99")]);
  charts.busy.add(now.at, [values.busy_mean, values.busy_max]);
  charts.queues.add(now.at, [now.all.get("send_queue_bytes")]);
}

function showTables(now, last) {
  const minute = before(MINUTE_S);
  const counted = (name, row) => {
    const total = now.all.get(name);
    row.classList.toggle("nothing", total === 0);
    return [count(increase(minute.all, now.all, name)), count(total)];
  };
  for (const metric of ["closes_total", "rejections_total"]) {
    const labels = [...byLabel(now, metric).keys()];
    rows(metric, labels, (label, row) => counted(`${metric}{${label}}`, row));
  }
  const events = Object.keys(EVENTS);
  rows("events", Object.values(EVENTS), (_, row) => counted(events[row.sectionRowIndex], row));

  const most = Math.max(1, ...[...now.shards.values()].map((shard) => shard.get("connections")));
  rows("shards", [...now.shards.keys()], (shard, row) => {
    const values = now.shards.get(shard);
    share(row, values.get("connections"), most);
    const perSecond = (name) =>
      last ? increase(last.shards.get(shard), values, name) / (now.at - last.at) : null;
    return [
      count(values.get("connections")),
      formatted(perSecond("messages_received_total"), rate),
      formatted(perSecond("messages_sent_total"), rate),
      formatted(perSecond("turn_seconds_sum"), percent),
    ];
  });
}

/** Shows a bar beside the connections of a shard, in proportion to the largest number. */
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
const DRAINING = "Draining: new connections are refused, and all connections are being closed.";
const title = (state) => (document.title = state ? `${state} – Tidewheel` : "Tidewheel");

/** The time of the first failed poll since the last response. */
let unreachableSince = null;
/** The time at which a restart was noticed. */
let restartedAt = null;

function received(sample) {
  const restarted = samples.length > 0 && isRestart(samples.at(-1), sample);
  if (restarted) {
    samples = [];
    restartedAt = timeOfDay();
  }
  if (restarted || unreachableSince !== null) gap();
  unreachableSince = null;
  const last = samples.at(-1);
  samples.push(sample);
  while (samples[0].at < sample.at - HISTORY_S) samples.shift();
  showValues(sample, last);
  showTables(sample, last);
  // Only the newest sample needs the values of single shards.
  if (last) last.shards = null;

  const [version] = byLabel(sample, "build_info").keys();
  show("version", version);
  show("time", timeOfDay());
  const draining = sample.all.get("draining") === 1;
  document.body.dataset.state = draining ? "draining" : "serving";
  const serving = restartedAt ? `Serving. Restarted at ${restartedAt}.` : "Serving.";
  show("status", draining ? DRAINING : serving);
  title(draining ? "draining" : "");
}

function failed() {
  unreachableSince ??= timeOfDay();
  document.body.dataset.state = "gone";
  const known = samples.length > 0 ? " The values are the last known ones." : "";
  show("status", `Not reachable since ${unreachableSince}.${known}`);
  title("not reachable");
}

/** Adds a gap to all charts. */
function gap() {
  const now = clock();
  for (const chart of Object.values(charts)) chart.add(now, chart.lines.map(() => null));
}

/** Fetches a sample; null if the response is missing or incomplete. */
async function fetchSample() {
  try {
    const signal = AbortSignal.timeout(POLL_TIMEOUT_MS);
    const response = await fetch("/metrics", {
      cache: "no-store",
      // OpenMetrics ends with `# EOF`, which shows that the response is complete.
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
    const sample = await fetchSample();
    if (sample) received(sample);
    else failed();
    for (const chart of Object.values(charts)) chart.draw(clock());
  } finally {
    setTimeout(poll, Math.max(0, POLL_MS - 1000 * (clock() - began)));
  }
}

show("host", location.host);
poll();
