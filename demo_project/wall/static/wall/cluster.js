// The cluster page: asks one process, which answers for all of them.

import { get } from "api";
import { connect } from "account";

const $ = (id) => document.getElementById(id);
const ROLES = ["web", "websocket", "worker", "scheduler", "supervisor"];
let before = null;

async function refresh() {
  try {
    const view = await get("/api/cluster/");
    show(view);
    before = { at: performance.now(), counters: view.counters };
  } catch (error) {
    $("summary").textContent = `No answer: ${error.message}`;
  }
}

function show(view) {
  const hosts = new Set(view.members.map((member) => member.host));
  $("summary").textContent = `${view.members.length} processes on ${hosts.size} ${hosts.size === 1 ? "host" : "hosts"} · release ${view.members[0]?.release || "?"}`;
  showTiles(view);
  showProcesses(view.members);
  showQueues(view.apps.scaling_kit_jobs);
  showSchedules(view.apps.scaling_kit_scheduler);
}

function showTiles({ counters, members }) {
  const hits = counters["cache.hit"] || 0;
  const asked = hits + (counters["cache.miss"] || 0);
  const sockets = members.reduce((sum, member) => sum + Number(member.info.sockets || 0), 0);
  tiles([
    ["Requests", number(counters["web.requests"]), rate("web.requests", counters)],
    ["Cache hits", asked ? `${Math.round((100 * hits) / asked)} %` : "–", `${number(hits)} of ${number(asked)}`],
    ["Open sockets", number(sockets), `${number(counters["realtime.delivered"])} messages delivered`],
    ["Jobs done", number(counters["jobs.done"] ?? counters["jobs.succeeded"]), rate("jobs.done", counters)],
  ]);
}

function tiles(items) {
  $("tiles").replaceChildren(...items.map(([label, value, note]) => {
    const tile = element("div", "tile");
    tile.append(element("span", "label", label), element("b", "", value), element("small", "", note));
    return tile;
  }));
}

function showProcesses(members) {
  const roles = [...ROLES, ...new Set(members.map((member) => member.role).filter((role) => !ROLES.includes(role)))];
  $("processes").replaceChildren(...roles.flatMap((role) => {
    const found = members.filter((member) => member.role === role);
    if (!found.length) return [];
    const group = element("div", "group");
    group.append(element("h3", "", `${role} × ${found.length}`), ...found.map(card));
    return [group];
  }));
}

function card(member) {
  const age = Date.now() / 1000 - member.started_at;
  const { state = "", job = "" } = member.info;
  const item = element("div", `process ${state}`);
  item.append(
    element("b", "", `${member.host} · ${member.pid}`),
    element("small", "", [state, job, `${Math.round(member.rss_bytes / 1e6)} MB`, `up ${duration(age)}`].filter(Boolean).join(" · ")),
  );
  return item;
}

function showQueues({ snapshot, error }) {
  if (error) return $("queues").replaceChildren(element("p", "error", error));
  const queues = Object.entries(snapshot.queues);
  $("queues").replaceChildren(table(["queue", "waiting", "running", "delayed", "failed"], queues.map(([name, queue]) => [
    name, queue.waiting, queue.running, queue.scheduled, queue.failed,
  ])));
}

function showSchedules({ snapshot, error }) {
  if (error) return $("schedules").replaceChildren(element("p", "error", error));
  const { leader, epoch, schedules } = snapshot;
  $("schedules").replaceChildren(
    element("p", "meta", leader ? `${leader} leads · epoch ${epoch}` : "Nobody leads right now."),
    table(["schedule", "runs", "last", "next"], schedules.map((entry) => [
      entry.name, entry.runs, ago(entry.last_run_at), ago(entry.next_run_at),
    ])),
  );
}

// ---- small things

function table(head, body) {
  const result = element("table");
  const row = (cells, tag) => {
    const line = element("tr");
    line.append(...cells.map((cell) => element(tag, "", String(cell ?? "–"))));
    return line;
  };
  result.append(row(head, "th"), ...body.map((cells) => row(cells, "td")));
  return result;
}

function element(tag, className = "", text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

function rate(name, counters) {
  if (!before || counters[name] === undefined) return "";
  const seconds = (performance.now() - before.at) / 1000;
  return `${Math.max(0, (counters[name] - (before.counters[name] || 0)) / seconds).toFixed(1)} per second`;
}

const number = (value) => Number(value || 0).toLocaleString();

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function ago(moment) {
  if (!moment) return "–";
  const seconds = moment - Date.now() / 1000;
  return seconds >= 0 ? `in ${duration(seconds)}` : `${duration(-seconds)} ago`;
}

connect();
refresh();
setInterval(() => document.hidden || refresh(), 2000);
