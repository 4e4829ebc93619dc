// The cluster page: what the kit draws of the cluster, and which process answered each request of this browser.

import { get, onServedBy, post } from "api";
import { connect } from "account";
import { $, confirmed, element, setText } from "elements";
import { keepAlive } from "live";

const REQUESTS = 100;
const AT_ONCE = 5;
const SHOWN = 200;
const COLOURS = 8;

// ---- who answers

const colours = new Map();
let answers = [];

function answered(process) {
  if (process && !colours.has(process)) colours.set(process, `p${colours.size % COLOURS}`);
  answers = [...answers, process].slice(-SHOWN);
  $("strip").append(element("i", { className: process ? colours.get(process) : "failed", title: process || "no answer" }));
  while ($("strip").children.length > SHOWN) $("strip").firstElementChild.remove();
  const counted = [...colours].map(([name, colour]) => [name, colour, answers.filter((each) => each === name).length]);
  $("who").replaceChildren(...counted.filter(([, , count]) => count).map(([name, colour, count]) => element("li", { className: colour, textContent: `${name}: ${count}` })));
}

async function send() {
  $("send").disabled = true;
  let left = REQUESTS;
  let lost = 0;
  const client = async () => {
    while (left-- > 0) {
      try {
        await get("/api/photo-of-the-minute/");
      } catch {
        lost += 1;
        answered(null);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, client));
  setText($("lost"), `${lost} of ${REQUESTS} requests lost`);
  $("send").disabled = false;
}

onServedBy((process) => process && answered(process));
$("send").addEventListener("click", send);

// ---- the cluster

function ask(path, { method = "GET", body } = {}) {
  if (method === "GET") return get(`/api/cluster/${path}`);
  return body.verb === "kill" ? post("/api/cluster/kill/", { id: body.names[0] }) : post(`/api/cluster/${path}`, body);
}

keepAlive({
  root: $("cluster"),
  lately: $("lately"),
  ask,
  confirmed,
  say() {},
  lose(error) {
    $("problem").hidden = !error;
    if (error) setText($("problem"), `No answer, so this is old; the page asks again by itself. ${error.message}`);
  },
});
document.addEventListener("session", ({ detail }) => detail && connect());
connect();
