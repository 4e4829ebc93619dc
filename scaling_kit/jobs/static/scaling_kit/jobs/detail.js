// The drawer with all there is to know of one job. A part is made anew only when what it shows has changed, so that
// what somebody has unfolded or selected stays as it is.

import { $, absolute, ask, between, element, mayChange, measured, number, relative, setText } from "../staff/elements.js";
import { actionButtons, priorityForm } from "./actions.js";

const drawer = $("job");
let shownId = null;
let parts = new Map();

export function isOpen() {
  return shownId !== null;
}

export async function showJob(id, after) {
  const isNew = shownId !== id;
  if (isNew) {
    shownId = id;
    parts = new Map();
    setText($("job-title"), "…");
    setText($("job-where"), id);
    $("job-actions").replaceChildren();
    $("job-body").replaceChildren(...["notice", "progress", "error", "facts", "call", "result", "history", "log"].map((name) => {
      const part = element("section", { className: `part ${name}`, hidden: true });
      parts.set(name, { node: part, seen: "" });
      return part;
    }));
    parts.set("actions", { node: $("job-actions"), seen: "" });
    if (!drawer.open) drawer.showModal();
  }
  try {
    const job = await ask(`jobs/${encodeURIComponent(id)}/`);
    if (shownId === id) render(job, after);
  } catch (error) {
    if (shownId !== id) return;
    if (error.code !== "job_unknown") throw error;
    part("notice", error.message, () => [element("p", { className: "note", textContent: error.message })]);
    part("actions", "", () => []);
  }
}

export function hideJob() {
  shownId = null;
  if (drawer.open) drawer.close();
}

function render(job, after) {
  setText($("job-title"), shortName(job));
  setText($("job-where"), `${job.queue} · ${job.id}`);
  part("actions", mayChange ? JSON.stringify([job.actions, job.priority, job.state]) : "", () => actions(job, after));
  part("notice", job.note, () => [element("p", { className: "note", textContent: job.note })]);
  part("progress", job.state === "running" || job.progress ? JSON.stringify([job.progress, job.state]) : "", () => progress(job));
  part("error", job.state === "failed" ? job.error : "", () => [element("p", { className: "error-line", textContent: job.error })]);
  facts(job);
  part("call", JSON.stringify([job.function, job.args, job.kwargs, job.arguments_reason]), () => call(job));
  part("result", job.state === "finished" ? JSON.stringify([job.result, job.result_reason]) : "", () => titled("Result", value(job.result, job.result_reason)));
  part("history", job.history.length ? JSON.stringify(job.history) : "", () => titled("Attempts", ...history(job)));
  part("log", job.log.length ? `${job.log.length} ${job.log.at(-1).entry}` : "", () => titled("Log", log(job.log)));
}

function part(name, seen, build) {
  const { node, seen: before } = parts.get(name);
  if (seen === before) return;
  parts.get(name).seen = seen;
  node.hidden = !seen;
  node.replaceChildren(...(seen ? build() : []));
}

const titled = (title, ...nodes) => [element("h3", { textContent: title }), ...nodes];

function actions(job, after) {
  const buttons = actionButtons(job, after);
  return job.actions.includes("priority") ? [...buttons, priorityForm(job, after)] : buttons;
}

function progress(job) {
  const { isKnown, done, total, text } = measured(job.progress);
  const bar = element("progress", { "aria-label": "Progress", ...(isKnown ? { max: total, value: done } : {}) });
  return [bar, element("p", { className: "meta", textContent: text })];
}

// Times say how long ago they were, so these change with every look.
function facts(job) {
  const rows = [
    ["State", job.status && job.status !== job.state ? `${job.state} (${job.status})` : job.state],
    ["Priority", String(job.priority)],
    ["Attempts", `${job.attempts}${job.retries_left ? `, ${job.retries_left} more if it fails` : ""}${job.kills ? `, its process died ${job.kills} times` : ""}`],
    ["Worker", job.state === "running" ? job.worker : ""],
    ["Created", job.created_at],
    ["Enqueued", job.enqueued_at],
    ["Due", job.run_at],
    ["Started", job.started_at],
    ["Ended", job.ended_at],
    ["Ran for", job.state === "running" ? "" : between(job.started_at, job.ended_at)],
    ["Must start by", job.expires_at],
    ["Time limit", job.timeout_seconds > 0 ? `${job.timeout_seconds} s` : job.timeout_seconds ? "none" : ""],
    ["Retries", job.retry ? retries(job.retry) : ""],
    ["Unique", job.is_unique ? "yes" : ""],
    ["Kept for", job.kept_seconds === null ? "" : `${number(Math.round(job.kept_seconds / 3600))} h more`],
    ["Waits for", job.depends_on.join(", ")],
    ["Others wait for it", job.dependents.join(", ")],
  ].filter(([, text]) => text);
  part("facts", rows.map(([name]) => name).join(), () => [element("dl", {}, ...rows.flatMap(([name]) => [element("dt", { textContent: name }), element("dd")]))]);
  const shown = parts.get("facts").node.querySelectorAll("dd");
  rows.forEach(([name, text], index) => {
    const isTime = /^(Created|Enqueued|Due|Started|Ended|Must start by)$/.test(name);
    setText(shown[index], isTime ? `${relative(text)} · ${absolute(text)}` : text);
  });
}

function retries({ count, delays, first_seconds: first, max_seconds: max, backoff }) {
  if (Array.isArray(delays) && delays.length) return `${count}, after ${delays.join(", ")} s`;
  if (backoff && backoff !== "exponential" && backoff !== "fixed") return `${count}, after what ${backoff} says`;
  if (!first) return String(count);
  return backoff === "fixed" ? `${count}, after ${first} s each` : `${count}, after ${first} s, doubling up to ${max} s`;
}

function call(job) {
  const title = element("h3", { textContent: "Call" });
  if (job.arguments_reason) return [title, element("p", { className: "meta", textContent: `Arguments: ${job.arguments_reason}` })];
  return [title, element("pre", { textContent: signature(job), tabIndex: 0 })];
}

/** As one would write it in Python, more or less. */
function signature({ function: name, args, kwargs }) {
  const shown = [...args.map((arg) => JSON.stringify(arg)), ...Object.entries(kwargs).map(([key, arg]) => `${key}=${JSON.stringify(arg)}`)];
  const line = `${name}(${shown.join(", ")})`;
  return line.length < 70 || !shown.length ? line : `${name}(\n${shown.map((arg) => `    ${arg},`).join("\n")}\n)`;
}

function value(result, reason) {
  if (reason) return element("p", { className: "meta", textContent: reason });
  return element("pre", { textContent: JSON.stringify(result, null, 2), tabIndex: 0 });
}

function history(job) {
  return job.history.toReversed().map((attempt, index) => {
    const isLast = index === 0;
    const outcome = attempt.exception || attempt.traceback ? attempt.exception || "failed" : isLast && job.state === "running" ? "running" : isLast && job.state === "finished" ? "succeeded" : "";
    const head = [element("b", { textContent: `#${attempt.number}` }), element("span", { className: attempt.traceback ? "bad" : "", textContent: outcome }), element("small", { textContent: attempt.worker })];
    if (!attempt.traceback) return element("div", { className: "attempt" }, ...head);
    return element("details", { className: "attempt", open: isLast && job.state === "failed" }, element("summary", {}, ...head), element("pre", { className: "traceback", textContent: attempt.traceback, tabIndex: 0 }));
  });
}

function log(lines) {
  const list = element("ol", { className: "lines", tabIndex: 0, "aria-label": "Log lines" }, ...lines.map((line) => element("li", {}, element("time", { dateTime: line.at, textContent: new Date(line.at).toLocaleTimeString() }), element("span", { textContent: line.message }))));
  requestAnimationFrame(() => { list.scrollTop = list.scrollHeight; });
  return list;
}

export function shortName(job) {
  return (job.task || job.id).split(".").at(-1);
}
