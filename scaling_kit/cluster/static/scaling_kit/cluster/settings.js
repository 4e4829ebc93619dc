// Run-time settings: what they are, a field to change each, and who changed what.

import { $, absolute, ask, button, element, place, relative, setText, toast } from "../staff/elements.js";

const PERIOD = 10_000;
const SHOWN_CHANGES = 8;
const rows = new Map();

async function refresh() {
  try {
    draw(await ask("settings/"));
    $("settings-problem").hidden = true;
  } catch (error) {
    $("settings-problem").hidden = false;
    setText($("settings-problem"), error.message);
  }
}

function draw({ settings, history, may_change: mayChange }) {
  for (const setting of settings) {
    if (!rows.has(setting.name)) rows.set(setting.name, row(setting, mayChange));
    rows.get(setting.name).show(setting);
  }
  place($("settings-rows"), settings.map(({ name }) => rows.get(name).node));
  $("settings-changes").replaceChildren(...history.slice(0, SHOWN_CHANGES).map(change));
  $("settings-history").hidden = history.length === 0;
}

/** What somebody is typing is left alone, until it is saved or as it was. */
function row({ name, type, help }, mayChange) {
  const id = `setting-${name}`;
  const field = type === "bool" ? choice(id) : element("input", { id, type: "text", autocomplete: "off", maxLength: 10_000 });
  field.disabled = !mayChange;
  let shown = "";
  const save = button("Save", () => put(name, field.value, () => (shown = field.value)), "button small");
  const mark = () => (save.hidden = !mayChange || field.value === shown);
  field.addEventListener("input", mark);
  field.addEventListener("keydown", (event) => event.key === "Enter" && !save.hidden && save.click());
  const fallback = element("td", { className: "default" });
  const node = element("tr", {}, element("th", { scope: "row" }, element("label", { for: id, textContent: name }), element("small", { textContent: help })), element("td", {}, element("span", { className: "field" }, field, save)), fallback);
  return {
    node,
    show(setting) {
      if (field.value === shown) field.value = spelled(setting.value);
      shown = spelled(setting.value);
      setText(fallback, type === "bool" ? (setting.default ? "on" : "off") : spelled(setting.default) || "empty");
      mark();
    },
  };
}

function choice(id) {
  return element("select", { id }, ...["true", "false"].map((value) => element("option", { value, textContent: value === "true" ? "on" : "off" })));
}

async function put(name, value, done) {
  try {
    const answer = await ask("settings/", { method: "PATCH", body: { [name]: value } });
    done();
    draw(answer);
    toast(`${name} is changed, in all processes.`);
  } catch (error) {
    toast(`${name}: ${Object.values(error.fields || {}).flat().join(" ") || error.message}`, "bad");
  }
}

function change({ name, old, new: value, by, at }) {
  const words = `${spelled(old) || "empty"} → ${spelled(value) || "empty"}${by ? `, by ${by}` : ""}`;
  return element("li", {}, element("time", { dateTime: at, title: absolute(at), textContent: relative(at) }), element("b", { textContent: name }), element("span", { textContent: words }));
}

const spelled = (value) => (typeof value === "string" ? value : JSON.stringify(value));

refresh();
setInterval(() => document.hidden || refresh(), PERIOD);
