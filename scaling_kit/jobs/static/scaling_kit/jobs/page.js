// The page: queues above, the jobs of one state below, asked for again every second and a half while somebody looks.

import { $, absolute, ask, attempt, between, button, confirmed, duration, element, mayChange, measured, number, place, relative, secondsSince, setText, toast } from "../staff/elements.js";
import { actionButtons } from "./actions.js";
import { hideJob, isOpen, shortName, showJob } from "./detail.js";

const PERIOD = 1500;
const SLOW_SECONDS = 30;
const FINAL = ["failed", "finished", "canceled"];
const asked = { queue: "", state: "waiting", task: "", order: "", page: 1, job: "" };
let queues = [];
let timer = 0;
let round = 0;

// ---- what is asked for is in the address, so that it can be sent to somebody

function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(asked)) asked[name] = found.get(name) || { state: "waiting", page: 1 }[name] || "";
  asked.page = Math.max(1, Number(asked.page) || 1);
  $("task").value = asked.task;
  $("order").value = asked.order;
}

function go(changes) {
  const next = { ...asked, page: 1, ...changes };
  const entries = Object.entries(next).filter(([name, value]) => value && !(name === "page" && value === 1));
  const hash = `#${new URLSearchParams(entries)}`;
  if (hash === location.hash) refresh();
  else location.hash = hash;
}

const hashFor = (id) => `#${new URLSearchParams(Object.entries({ ...asked, job: id }).filter(([, value]) => value))}`;

// ---- asking

async function refresh() {
  clearTimeout(timer);
  const mine = ++round;
  try {
    await Promise.all([showQueues(mine), showList(mine), asked.job ? showJob(asked.job, refresh) : null]);
    if (mine === round) say("open", "live");
  } catch (error) {
    if (mine === round) say("lost", error.status === 401 || error.status === 403 ? "Signed out: reload the page" : `No answer: ${error.message}`);
  }
  if (mine === round && !document.hidden) timer = setTimeout(refresh, PERIOD);
}

function say(status, text) {
  $("live").dataset.status = status;
  setText($("live").lastElementChild, text);
}

async function showQueues(mine) {
  const answer = await ask("queues/");
  if (mine !== round) return;
  ({ queues } = answer);
  drawQueues();
  drawTabs();
  drawBulk();
}

async function showList(mine) {
  const { state, queue, task, order, page } = asked;
  let answer;
  try {
    answer = await ask("jobs/", { query: { state, queue, task, order, page } });
  } catch (error) {
    if (error.status !== 400 && error.status !== 404) throw error;
    answer = { jobs: [], total: 0, page: 1, pages: 1, complete: true, problem: error.message };
  }
  if (mine === round) drawList(answer);
}

// ---- queues

const cards = new Map();

function drawQueues() {
  const total = { name: "", paused: false, oldest_seconds: null };
  for (const state of ["waiting", "scheduled", "running", "failed", "finished"]) total[state] = queues.reduce((sum, queue) => sum + queue[state], 0);
  total.oldest_seconds = queues.reduce((oldest, queue) => Math.max(oldest, queue.oldest_seconds ?? -1), -1);
  if (total.oldest_seconds < 0) total.oldest_seconds = null;
  const shown = queues.length > 1 ? [total, ...queues] : queues;
  for (const queue of shown) {
    if (!cards.has(queue.name)) cards.set(queue.name, makeCard(queue.name));
    fillCard(cards.get(queue.name), queue);
  }
  place($("queues"), shown.map((queue) => cards.get(queue.name).card));
}

function makeCard(name) {
  const pick = element("button", { type: "button", className: "pick" });
  const figures = Object.fromEntries(["waiting", "running", "scheduled", "failed"].map((state) => [state, element("dd")]));
  const badge = element("span", { className: "badge", textContent: "paused", hidden: true });
  const latency = element("span", { className: "latency" });
  const title = element("b", { className: "name", textContent: name || "All queues", title: name });
  pick.append(
    title,
    element("dl", {}, ...Object.entries(figures).flatMap(([state, node]) => [element("div", { className: state }, element("dt", { textContent: state === "scheduled" ? "delayed" : state }), node)])),
    element("p", { className: "foot" }, badge, latency),
  );
  pick.addEventListener("click", () => go({ queue: asked.queue === name ? "" : name }));
  const toggle = mayChange && name ? button("", () => pauseOrResume(name), "button small toggle") : null;
  return { card: element("li", { className: `queue ${name ? "" : "total"}` }, pick, toggle), pick, figures, badge, latency, toggle };
}

function fillCard({ card, pick, figures, badge, latency, toggle }, queue) {
  for (const [state, node] of Object.entries(figures)) {
    setText(node, number(queue[state]));
    node.parentElement.classList.toggle("some", queue[state] > 0);
  }
  const waits = queue.oldest_seconds;
  setText(latency, waits === null ? "nothing waits" : `oldest waits ${duration(waits)}`);
  latency.classList.toggle("slow", waits !== null && waits > SLOW_SECONDS);
  badge.hidden = !queue.paused;
  card.classList.toggle("paused", queue.paused);
  pick.setAttribute("aria-pressed", String(asked.queue === queue.name));
  if (!toggle) return;
  setText(toggle, queue.paused ? "Resume" : "Pause");
  toggle.setAttribute("aria-label", `${queue.paused ? "Resume" : "Pause"} ${queue.name}`);
}

async function pauseOrResume(name) {
  const action = queues.find((queue) => queue.name === name).paused ? "resume" : "pause";
  const said = action === "pause" ? `${name} is paused: workers take nothing from it.` : `${name} goes on.`;
  await attempt(() => ask(`queues/${encodeURIComponent(name)}/${action}/`, { method: "POST" }), said, refresh);
}

// ---- tabs

const tabs = [...$("tabs").children];

function drawTabs() {
  const counted = queues.filter((queue) => !asked.queue || queue.name === asked.queue);
  for (const tab of tabs) {
    const { state } = tab.dataset;
    const count = counted.reduce((sum, queue) => sum + queue[state], 0);
    const isShown = state === asked.state;
    setText(tab.lastElementChild, number(count));
    tab.setAttribute("aria-selected", String(isShown));
    tab.tabIndex = isShown ? 0 : -1;
    tab.hidden = state === "deferred" && !count && !isShown;
    tab.classList.toggle("some", count > 0);
    if (isShown) $("list").setAttribute("aria-labelledby", tab.id);
  }
  setText($("of-queue"), asked.queue || "all queues");
}

$("tabs").addEventListener("click", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (tab) go({ state: tab.dataset.state, order: "" });
});

$("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const visible = tabs.filter((tab) => !tab.hidden);
  const next = visible[(visible.indexOf(event.target) + step + visible.length) % visible.length];
  next.focus();
  go({ state: next.dataset.state, order: "" });
});

// ---- what is done to many

let bulkFor = "";

function drawBulk() {
  const counted = queues.filter((queue) => (!asked.queue || queue.name === asked.queue) && queue[asked.state] > 0);
  const signature = mayChange && counted.length ? `${asked.state} ${counted.map((queue) => queue.name)}` : "";
  if (signature === bulkFor) return;
  bulkFor = signature;
  const { state } = asked;
  const names = counted.map((queue) => queue.name);
  const made = [];
  if (signature && state === "failed") made.push(button("Retry all", () => onMany("retry-failed", names, "Retried"), "button"));
  if (signature && FINAL.includes(state)) made.push(button("Remove all", () => removeAll(state, names), "button danger"));
  if (signature && state === "waiting") made.push(button("Empty", () => emptyAll(names), "button danger"));
  $("bulk").replaceChildren(...made);
}

async function removeAll(state, names) {
  if (await confirmed(`Remove all ${state} jobs?`, `Those of ${names.join(", ")}, with everything kept of them.`, "Remove all")) await onMany("remove", names, "Removed", { state });
}

async function emptyAll(names) {
  if (await confirmed(`Empty ${names.join(", ")}?`, "Every job that waits there is deleted and will not run.", "Empty")) await onMany("empty", names, "Removed");
}

/** In as many requests as it takes: each does a part and says what is left. */
async function onMany(action, names, done, body) {
  let count = 0;
  try {
    for (const name of names) {
      let answer;
      do {
        answer = await ask(`queues/${encodeURIComponent(name)}/${action}/`, { method: "POST", body });
        count += answer.done;
      } while (answer.remaining > 0 && answer.done > 0);
    }
    toast(`${done}: ${number(count)}.`);
  } catch (error) {
    toast(error.message, "bad");
  }
  await refresh();
}

// ---- the list

const body = $("jobs").tBodies[0];
let rows = new Map();

function drawList({ jobs, total, page, pages, searched, complete, problem }) {
  $("list").removeAttribute("aria-busy");
  const kept = new Map(jobs.map((job) => [job.id, rows.get(job.id) || makeRow(job)]));
  rows = kept;
  jobs.forEach((job) => fillRow(rows.get(job.id), job));
  place(body, jobs.map((job) => rows.get(job.id).row));
  $("jobs").hidden = !jobs.length;
  $("empty").hidden = jobs.length > 0;
  setText($("empty"), problem || emptyText());
  $("pages").hidden = pages < 2 && complete;
  $("previous").disabled = page <= 1;
  $("next").disabled = page >= pages;
  setText($("position"), `Page ${number(page)} of ${number(pages)} · ${number(total)} ${complete ? "jobs" : `among the first ${number(searched)}`}`);
}

function emptyText() {
  if (asked.task) return `No ${asked.state} job whose task contains “${asked.task}”.`;
  return { waiting: "Nothing waits.", running: "Nothing runs.", failed: "Nothing has failed.", scheduled: "Nothing is delayed.", canceled: "Nothing was canceled." }[asked.state] || "No such jobs.";
}

function makeRow(job) {
  const link = element("a", { className: "task" });
  const module = element("small");
  const bar = element("progress", { "aria-label": "Progress" });
  const text = element("span", { className: "text" });
  const cells = {
    task: element("td", { className: "cell-task" }, link, module),
    what: element("td", { className: "cell-what" }, bar, text),
    when: element("td", { className: "cell-when" }),
    priority: element("td", { className: "cell-priority number" }),
    attempts: element("td", { className: "cell-attempts number" }),
    actions: element("td", { className: "cell-actions" }),
  };
  return { row: element("tr", { data: { id: job.id } }, ...Object.values(cells)), cells, link, module, bar, text, actions: "" };
}

function fillRow(made, job) {
  setText(made.link, shortName(job));
  made.link.href = hashFor(job.id);
  const parts = (job.task || "").split(".").slice(0, -1).join(".");
  setText(made.module, [asked.queue ? "" : job.queue, parts || job.id].filter(Boolean).join(" · "));
  made.module.title = job.id;
  fillWhat(made, job);
  setText(made.cells.when, when(job));
  made.cells.when.title = moments(job);
  setText(made.cells.priority, job.priority ? String(job.priority) : "–");
  setText(made.cells.attempts, job.attempts ? String(job.attempts) : "–");
  made.row.dataset.state = job.state;
  const signature = mayChange ? `${job.state} ${job.actions}` : "";
  if (signature !== made.actions) made.cells.actions.replaceChildren(...(signature ? actionButtons(job, refresh, { compact: true }) : []));
  made.actions = signature;
}

function fillWhat({ bar, text }, job) {
  const { isKnown, done, total, text: progress } = measured(job.progress);
  const isRunning = job.state === "running";
  bar.hidden = !(isRunning || (isKnown && job.state !== "finished"));
  if (isKnown) Object.assign(bar, { max: total, value: done });
  else bar.removeAttribute("value");
  const failure = job.state === "failed" ? job.error || job.status : "";
  setText(text, job.note || failure || progress || (isRunning ? job.worker : retried(job)) || job.id);
  text.classList.toggle("id", text.textContent === job.id);
  text.classList.toggle("bad", Boolean(job.note || failure));
  text.title = text.textContent;
}

const retried = (job) => (job.state === "scheduled" && job.attempts ? `attempt ${job.attempts + 1}, ${job.retries_left} more after it` : "");

function when(job) {
  if (job.state === "waiting" && job.enqueued_at) return `waits ${duration(secondsSince(job.enqueued_at))}`;
  if (job.state === "scheduled" && job.run_at) return relative(job.run_at);
  if (job.state === "running" && job.started_at) return `for ${duration(secondsSince(job.started_at))}`;
  const took = between(job.started_at, job.ended_at);
  return job.ended_at ? `${relative(job.ended_at)}${took && job.state !== "canceled" ? `, took ${took}` : ""}` : job.created_at ? relative(job.created_at) : "";
}

function moments(job) {
  const known = [["created", job.created_at], ["due", job.run_at], ["started", job.started_at], ["ended", job.ended_at]];
  return known.filter(([, moment]) => moment).map(([name, moment]) => `${name} ${absolute(moment)}`).join("\n");
}

// ---- what people do

let typing = 0;
$("task").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => go({ task: $("task").value.trim() }), 300);
});
$("tools").addEventListener("submit", (event) => event.preventDefault());
$("order").addEventListener("change", () => go({ order: $("order").value }));
$("previous").addEventListener("click", () => go({ page: asked.page - 1 }));
$("next").addEventListener("click", () => go({ page: asked.page + 1 }));
$("job-close").addEventListener("click", () => $("job").close());
$("job").addEventListener("click", (event) => event.target === $("job") && $("job").close());
$("job").addEventListener("close", () => {
  if (asked.job) go({ job: "", page: asked.page });
});
window.addEventListener("hashchange", () => {
  readAddress();
  if (!asked.job && isOpen()) hideJob();
  drawTabs();
  drawBulk();
  $("list").setAttribute("aria-busy", "true");
  refresh();
});
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));

readAddress();
refresh();
