// Making and changing elements, asking the API, and saying times. Data only ever becomes text, never markup.

export const $ = (id) => document.getElementById(id);
export const mayChange = document.body.dataset.mayChange === "true";

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role" || name === "scope" || name === "for") made.setAttribute(name, value);
    else if (name === "data") Object.assign(made.dataset, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function button(label, act, className = "button") {
  const made = element("button", { type: "button", className, textContent: label });
  made.addEventListener("click", act);
  return made;
}

export function toast(text, kind = "") {
  const note = element("p", { className: `toast ${kind}`, textContent: text });
  const box = $("toasts");
  box.append(note);
  box.hidePopover?.(); // shown anew, it is above a dialog that was opened meanwhile
  box.showPopover?.();
  setTimeout(() => note.remove(), kind === "bad" ? 8000 : 4000);
}

/** Ask before something that cannot be undone. */
export function confirmed(title, text, yes) {
  setText($("confirm-title"), title);
  setText($("confirm-text"), text);
  setText($("confirm-yes"), yes);
  const dialog = $("confirm");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Put these children there, in this order; if they are there already, touch nothing: it would take the focus. */
export function place(parent, children) {
  if (parent.children.length !== children.length || children.some((child, index) => parent.children[index] !== child)) parent.replaceChildren(...children);
}

// ---- the API

export class Refused extends Error {
  constructor(status, body) {
    super(body.detail || `The server answered ${status}.`);
    this.status = status;
    this.code = body.code;
    this.fields = body.fields;
  }
}

let clockOffset = 0;

export async function ask(path, { method = "GET", body, query } = {}) {
  const url = new URL(document.body.dataset.api + path, location.href);
  for (const [name, value] of Object.entries(query || {})) if (value) url.searchParams.set(name, value);
  const response = await fetch(url, {
    method,
    headers: { Accept: "application/json", ...(method === "GET" ? {} : { "X-CSRFToken": document.body.dataset.csrfToken, "Content-Type": "application/json" }) },
    body: method === "GET" ? undefined : JSON.stringify(body ?? {}),
    credentials: "same-origin",
    signal: AbortSignal.timeout(15000),
  });
  const date = Date.parse(response.headers.get("Date"));
  if (date && Math.abs(date - Date.now() - clockOffset) > 2000) clockOffset = date - Date.now();
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

/** Do something, say how it went, and look again. */
export async function attempt(act, done, after) {
  try {
    const answer = await act();
    toast(typeof done === "function" ? done(answer) : done);
    return answer;
  } catch (error) {
    toast(error.message, "bad");
    return null;
  } finally {
    await after();
  }
}

// ---- times and numbers

/** What a bar shows, and in words; a total that is no number, or none, makes a bar that only moves. */
export function measured(progress) {
  const { done, total, message } = progress || {};
  const isKnown = Number.isFinite(done) && Number.isFinite(total) && total > 0;
  const counted = isKnown ? `${number(done)} of ${number(total)}` : Number.isFinite(done) ? number(done) : "";
  return { isKnown, done, total, text: [counted, message].filter(Boolean).join(" · ") };
}

export const number = (value) => Number(value ?? 0).toLocaleString();
export const secondsSince = (moment) => (Date.now() + clockOffset - Date.parse(moment)) / 1000;

export function duration(seconds) {
  const s = Math.max(0, seconds);
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 100) return `${Math.round(s)} s`;
  if (s < 6000) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${(s / 3600).toFixed(1)} h`;
  return `${Math.round(s / 86400)} days`;
}

export function relative(moment) {
  const seconds = secondsSince(moment);
  return seconds >= 0 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`;
}

export const absolute = (moment) => new Date(moment).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function between(from, to) {
  return from && to ? duration((Date.parse(to) - Date.parse(from)) / 1000) : "";
}
