// Keeps a part of the page as the server draws it, and gives the orders that its buttons stand for.

const PERIOD = 2000;
const SECOND_CHANCE = 700;
const PATIENCE = 5000;
const ASK_AGAIN = 700;
const GIVE_UP_AFTER = 15 * 60_000;
const SHOWN_LINES = 5;

/**
 * `ask(path, {method, body})` asks the API under `cluster/` and throws what it refuses, with `code` and `status`.
 * `lately` is a list for what was ordered, and which processes came and went.
 * `say(status, text)` shows whether the page is alive; `lose(error)` that it is not, or (null) that it is again.
 */
export function keepAlive({ root, lately, ask, say, lose, confirmed }) {
  let timer = 0;
  let round = 0;
  let failed = 0;

  async function refresh() {
    clearTimeout(timer);
    const mine = ++round;
    const slow = setTimeout(() => mine === round && lost("slow", new Error(`nothing for ${PATIENCE / 1000} seconds.`)), PATIENCE);
    try {
      const { html } = await ask("live/");
      if (mine === round) draw(html);
    } catch (error) {
      if (mine === round) fail(error);
    } finally {
      clearTimeout(slow);
    }
    if (mine === round && !document.hidden) timer = setTimeout(refresh, failed === 1 ? SECOND_CHANCE : PERIOD);
  }

  function draw(html) {
    failed = 0;
    say("open", "live");
    lose(null);
    root.classList.remove("old");
    const drawn = document.createElement("template");
    drawn.innerHTML = html; // by our own template, which escapes whatever is not ours
    morph(root, drawn.content);
    under.forEach(markBusy);
    tellChanges();
  }

  /** No answer at all, once, is no news: who answers may just be replaced. */
  function fail(error) {
    failed += 1;
    const isSignedOut = error.status === 401 || error.status === 403;
    if (isSignedOut) lost("Signed out: reload the page", null);
    else if (failed > 1 || error.code) lost("no answer", error);
  }

  /** What is shown stays, dimmed; a line says that it is old. */
  function lost(text, error) {
    say("lost", text);
    root.classList.add("old");
    lose(error);
  }

  // ---- who came and went

  let known = null;

  function tellChanges() {
    const rows = [...root.querySelectorAll("tr[data-pid]")];
    const seen = new Map(rows.map((row) => [row.dataset.key, { group: row.closest("tbody").dataset.key, pid: row.dataset.pid }]));
    if (!known && !seen.size) return; // nothing has been drawn yet
    const before = known ?? seen;
    known = seen;
    for (const row of rows) row.classList.toggle("came", !before.has(row.dataset.key));
    const came = [...seen].filter(([id]) => !before.has(id)).map(([, one]) => one);
    const went = [...before].filter(([id]) => !seen.has(id)).map(([, one]) => one);
    for (const group of new Set([...went, ...came].map((one) => one.group))) {
      const told = [[went, "went"], [came, "came"]].map(([all, verb]) => [all.filter((one) => one.group === group).map((one) => one.pid), verb]);
      tell(note(group), "change", told.filter(([pids]) => pids.length).map(([pids, verb]) => `${pids.join(", ")} ${verb}`).join("; "));
    }
  }

  // ---- orders

  const under = new Set();

  root.addEventListener("click", async (event) => {
    const { host, verb, name, amount, confirm, text, yes } = event.target.closest("button[data-verb]")?.dataset ?? {};
    if (!verb) return;
    if (confirm && !(await confirmed(confirm, text, yes))) return;
    await give({ host, verb, names: verb === "scale" ? { [name]: amount } : name ? [name] : undefined }, name);
  });

  async function give(order, name) {
    const doing = { host: order.host, name };
    const line = note([order.verb, name, order.names?.[name], name ? "on" : "", order.host].filter(Boolean).join(" "));
    under.add(doing);
    markBusy(doing);
    try {
      const answer = await ended(await ask("orders/", { method: "POST", body: order }));
      tell(line, "done", Object.values(answer.done).join(", ") || "done");
    } catch (error) {
      tell(line, "failed", error.message);
    }
    under.delete(doing);
    marked(doing, (button) => button.removeAttribute("aria-busy"));
    await refresh();
  }

  /** The answer to an order that takes longer; asked for again and again, since who answers may be what is restarted. */
  async function ended(answer) {
    const deadline = Date.now() + GIVE_UP_AFTER;
    while (answer.state === "under_way") {
      if (Date.now() > deadline) throw new Error("nobody has heard of it for a quarter of an hour");
      await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN));
      try {
        answer = await ask(`orders/${answer.id}/`);
      } catch (error) {
        if (error.status && error.status < 500) throw error;
      }
    }
    return answer;
  }

  const marked = ({ host, name }, act) => root.querySelectorAll(`button[data-host="${CSS.escape(host)}"][data-name="${CSS.escape(name)}"]`).forEach(act);
  const markBusy = (doing) => marked(doing, (button) => button.setAttribute("aria-busy", "true"));

  function note(what) {
    const line = document.createElement("li");
    const told = Object.assign(document.createElement("span"), { textContent: "under way …" });
    line.append(Object.assign(document.createElement("time"), { textContent: new Date().toLocaleTimeString() }), Object.assign(document.createElement("b"), { textContent: what }), told);
    lately.prepend(line);
    lately.hidden = false;
    while (lately.children.length > SHOWN_LINES) leastOfAll().remove();
    return line;
  }

  /** What was ordered is worth more than who came and went, and is not forgotten while it is under way. */
  function leastOfAll() {
    const lines = [...lately.children].reverse();
    return lines.find((line) => line.className === "change") ?? lines.find((line) => line.className) ?? lines[0];
  }

  function tell(line, how, text) {
    line.className = how;
    line.lastElementChild.textContent = text;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));
  tellChanges();
  refresh();
}

// ---- making one tree like the other, touching only what differs: focus and selection stay

const keyOf = (node) => node.nodeType === Node.ELEMENT_NODE && node.dataset.key;

export function morph(old, wanted) {
  const kept = new Map([...old.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let at = old.firstChild;
  for (const next of [...wanted.childNodes]) {
    const same = keyOf(next) ? kept.get(keyOf(next)) : at && isAlike(at, next) ? at : null;
    if (!same) {
      old.insertBefore(next, at);
      continue;
    }
    if (same !== at) old.insertBefore(same, at);
    else at = at.nextSibling;
    become(same, next);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

const isAlike = (one, other) => one.nodeType === other.nodeType && one.nodeName === other.nodeName && !keyOf(one) && !keyOf(other);

function become(old, wanted) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!wanted.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of [...wanted.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  morph(old, wanted);
}
