// What can be done to one job. `after` is called when something was done.

import { ask, attempt, button, confirmed, element } from "../staff/elements.js";

const LABELS = { "run-now": "Run now", retry: "Retry", cancel: "Cancel", remove: "Remove" };

export function actionButtons(job, after, { compact = false } = {}) {
  const names = job.actions.filter((name) => LABELS[name] && !(compact && name === "remove" && job.actions.length > 2));
  return names.map((name) => {
    const label = name === "cancel" && job.state === "running" ? "Stop" : LABELS[name];
    const made = button(label, () => perform(name, job, after), `button ${compact ? "small" : ""} ${name === "remove" || label === "Stop" ? "danger" : ""}`);
    made.setAttribute("aria-label", `${label}: ${job.task || "job"} ${job.id}`);
    return made;
  });
}

export function priorityForm(job, after) {
  const input = element("input", { type: "number", min: -100, max: 100, value: job.priority, id: "job-priority", "aria-label": "Priority, -100 to 100" });
  const form = element("form", { className: "priority" }, element("label", { for: "job-priority", textContent: "Priority" }), input, element("button", { className: "button", textContent: "Set" }));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await attempt(() => ask(path(job), { method: "PATCH", body: { priority: input.valueAsNumber } }), `Priority is ${input.value}.`, after);
  });
  return form;
}

async function perform(name, job, after) {
  const what = job.task || job.id;
  if (name === "remove") {
    if (!(await confirmed("Remove this job?", `${what} and everything kept of it, its errors and its log, is deleted.`, "Remove"))) return;
    await attempt(() => ask(path(job), { method: "DELETE" }), "Removed.", after);
  } else if (name === "cancel" && job.state === "running") {
    if (!(await confirmed("Stop this job?", `${what} is running. Its worker is asked to end it where it is.`, "Stop it"))) return;
    await attempt(() => ask(`${path(job)}cancel/`, { method: "POST" }), "Its worker was asked to stop it.", after);
  } else {
    const said = { cancel: "Canceled.", retry: "Back in its queue.", "run-now": "In its queue now." }[name];
    await attempt(() => ask(`${path(job)}${name}/`, { method: "POST" }), said, after);
  }
}

const path = (job) => `jobs/${encodeURIComponent(job.id)}/`;
