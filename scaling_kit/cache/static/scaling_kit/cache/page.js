// The page: figures above, views with their entries below, asked for again every two seconds while somebody looks.

import { $, absolute, ask, attempt, button, confirmed, element, mayChange, number, place, relative, setText } from "../staff/elements.js";

const PERIOD = 2000;
const RECENT_MS = 60_000;
const MOST_REASONS = 3;
let timer = 0;
let round = 0;

async function refresh() {
  clearTimeout(timer);
  const mine = ++round;
  try {
    const status = await ask("status/");
    if (mine === round) draw(status);
  } catch (error) {
    if (mine === round) lose(error);
  }
  if (mine === round && !document.hidden) timer = setTimeout(refresh, PERIOD);
}

function draw(status) {
  say("open", "live");
  $("problem").hidden = true;
  remember(status);
  drawFigures(status);
  drawWarnings(status.warnings);
  drawViews(status);
  drawChanges(status);
}

/** What is shown stays, and a line says that it is old. */
function lose(error) {
  const isSignedOut = error.status === 401 || error.status === 403;
  say("lost", isSignedOut ? "Signed out: reload the page" : "no answer");
  $("problem").hidden = isSignedOut;
  setText($("problem"), error.code === "redis_unavailable" ? "Redis does not answer. Meanwhile responses are computed from the database." : error.message);
}

function say(status, text) {
  $("live").dataset.status = status;
  setText($("live").lastElementChild, text);
}

// ---- the last minute: how it goes now, where the counters say how it went since they were begun

let samples = [];

function remember({ hit, miss, views }) {
  const newest = { at: performance.now(), counts: new Map([["", [hit, miss]], ...views.map((view) => [view.view, [view.hit, view.miss]])]) };
  if (samples.length && samples.at(-1).counts.get("")[0] > hit) samples = []; // Redis has lost its counters
  samples = [...samples.filter((sample) => newest.at - sample.at <= RECENT_MS), newest];
}

/** The hit ratio of the last minute, of a view or ("") of all; null if nothing was asked for. */
function recently(view) {
  const [before, now] = [samples[0], samples.at(-1)].map((sample) => sample.counts.get(view) || [0, 0]);
  const [hits, misses] = [now[0] - before[0], now[1] - before[1]];
  return hits + misses > 0 ? hits / (hits + misses) : null;
}

const sayRecently = (view) => (recently(view) === null ? "" : `last minute ${percent(recently(view))}`);

// ---- figures

const tiles = new Map();

function drawFigures(status) {
  const { hit, miss, bypass, bypass_reasons: reasons, entries, current, bytes, redis, latest_changes: changes } = status;
  const why = Object.entries(reasons).slice(0, MOST_REASONS).map(([reason, count]) => `${reason} ${number(count)}`);
  const atLeast = status.at_least ? "at least " : "";
  fillTile("Hit ratio", percent(status.hit_ratio), sayRecently("") || "since the counters began");
  fillTile("Served", number(hit), `${number(miss)} computed${status.refused ? ` · ${number(status.refused)} out of date before stored` : ""}`);
  fillTile("Bypassed", number(bypass), why.join(" · "));
  fillTile("Entries", `${status.at_least ? "≥ " : ""}${number(current)}`, `${atLeast}${size(bytes)}${entries > current ? ` · ${number(entries - current)} more are void` : ""}`);
  fillTile("Invalidations", number(status.invalidation), changes.length ? `last change ${relative(momentOf(changes[0]))}` : "");
  fillTile("Memory of Redis", redis.used_bytes === null ? "–" : size(redis.used_bytes), redis.used_bytes === null ? "it does not say" : `${redis.max_bytes ? `of ${size(redis.max_bytes)}` : "no maxmemory"} · ${redis.policy} · ${number(redis.evicted)} evicted`);
}

function fillTile(label, value, note) {
  if (!tiles.has(label)) {
    const [figure, small] = [element("b"), element("small")];
    tiles.set(label, { figure, small });
    $("figures").append(element("li", {}, element("span", { textContent: label }), figure, small));
  }
  setText(tiles.get(label).figure, value);
  setText(tiles.get(label).small, note);
}

let warned = "";

function drawWarnings(warnings) {
  const signature = JSON.stringify(warnings);
  if (signature === warned) return;
  warned = signature;
  $("warnings").replaceChildren(...warnings.map(({ code, detail }) => element("li", { className: "note", textContent: detail, data: { code } })));
}

// ---- views

const rows = new Map();

function drawViews({ views, at_least: atLeast }) {
  for (const view of views) {
    if (!rows.has(view.view)) rows.set(view.view, makeRow(view));
    fillRow(rows.get(view.view), view, atLeast);
  }
  place($("views").tBodies[0], views.map((view) => rows.get(view.view).row));
  $("views").hidden = !views.length;
  $("empty").hidden = views.length > 0;
}

function makeRow({ view, label }) {
  const parts = { hit: element("i", { className: "hit" }), miss: element("i", { className: "miss" }), bypass: element("i", { className: "bypass" }) };
  const bar = element("div", { className: "parts", role: "img" }, ...Object.values(parts));
  const [ratio, recent] = [element("b"), element("small")];
  const numbers = Object.fromEntries(["hits", "misses", "bypassed", "entries", "size"].map((unit) => [unit, element("td", { className: "number", data: { unit } })]));
  const title = element("td", { className: "view", title: view }, element("b", { textContent: label || "Of no known view" }), element("small", { textContent: moduleOf(view) }));
  const forget = mayChange && view ? button("Forget", () => dropView(view, label), "button small") : null;
  forget?.setAttribute("aria-label", `Forget ${label}`);
  const row = element("tr", {}, title, element("td", {}, element("div", { className: "ratio" }, bar, ratio, recent)), ...Object.values(numbers), element("td", {}, forget));
  return { row, bar, parts, ratio, recent, numbers, forget };
}

function fillRow({ bar, parts, ratio, recent, numbers, forget }, view, atLeast) {
  for (const [name, part] of Object.entries(parts)) {
    part.style.flexGrow = view[name];
    part.hidden = !view[name];
  }
  bar.setAttribute("aria-label", `${number(view.hit)} hits, ${number(view.miss)} misses, ${number(view.bypass)} bypassed`);
  setText(ratio, percent(view.hit_ratio));
  setText(recent, sayRecently(view.view));
  setText(numbers.hits, number(view.hit));
  setText(numbers.misses, number(view.miss));
  setText(numbers.bypassed, number(view.bypass));
  setText(numbers.entries, `${atLeast ? "≥ " : ""}${number(view.current)}`);
  numbers.entries.title = `${number(view.entries - view.current)} more are void, and in memory until their timeout`;
  setText(numbers.size, view.entries ? size(view.bytes) : "–");
  if (forget) forget.disabled = !view.current && !atLeast; // there may be some that were not looked at
}

const moduleOf = (view) => view.split(".").slice(0, view.split(".").findIndex((part) => /^[A-Z]/.test(part))).join(".");

// ---- changes

function drawChanges({ latest_changes: changes, in_flight: inFlight }) {
  place($("changes"), changes.map((each) => change(each.tag, each.what, momentOf(each))));
  $("in-flight").hidden = !inFlight.length;
  setText($("in-flight"), `Being committed: ${inFlight.join(", ")}`);
}

const momentOf = ({ changed_at: at }) => new Date(at * 1000).toISOString();

const lines = new Map();

function change(tag, what, moment) {
  if (!lines.has(tag)) {
    const time = element("time");
    lines.set(tag, { line: element("li", { data: { tag } }, element("b", { textContent: what, title: tag }), time), time });
  }
  const { line, time } = lines.get(tag);
  setText(time, relative(moment));
  time.dateTime = moment;
  time.title = absolute(moment);
  return line;
}

// ---- what people do

const drop = (what, said) => attempt(() => ask("drop/", { method: "POST", body: what }), said, refresh);

const dropView = (view, label) => drop({ view }, `Forgotten: ${label}.`);

$("drop")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const what = $("drop-what").value.trim();
  if (await drop({ [$("drop-kind").value]: what }, `Forgotten: whatever depends on ${what}.`)) $("drop-what").value = "";
});

$("drop-kind")?.addEventListener("change", () => {
  const isModel = $("drop-kind").value === "model";
  $("drop-what").setAttribute("list", isModel ? "models" : "");
  $("drop-what").placeholder = isModel ? "app.Model" : "a name of depends_on";
});

$("drop-all")?.addEventListener("click", async () => {
  if (await confirmed("Forget everything?", "Every response is computed anew, all of them at the same time: the database will feel it.", "Forget everything")) await drop({ everything: true }, "Everything is forgotten.");
});

document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));

// ---- numbers

const percent = (ratio) => (ratio === null ? "–" : `${(100 * ratio).toFixed(ratio > 0 && ratio < 1 ? 1 : 0)} %`);

function size(bytes) {
  const step = bytes < 1000 ? 0 : bytes < 1e6 ? 1 : bytes < 1e9 ? 2 : 3;
  return `${(bytes / 1000 ** step).toLocaleString(undefined, { maximumFractionDigits: step ? 1 : 0 })} ${["B", "kB", "MB", "GB"][step]}`;
}

refresh();
