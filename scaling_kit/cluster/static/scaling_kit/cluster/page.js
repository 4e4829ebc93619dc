// The dashboard: asked for again every two seconds while somebody looks.

import { $, ask, confirmed, setText } from "../staff/elements.js";
import { keepAlive } from "./live.js";

const WORDS = { redis_unavailable: "Redis does not answer, so nobody knows who is there. What is shown is old; this page asks again by itself." };

keepAlive({
  root: $("cluster"),
  lately: $("lately"),
  ask,
  confirmed,
  say(status, text) {
    $("live").dataset.status = status;
    setText($("live").lastElementChild, text);
  },
  lose(error) {
    $("problem").hidden = !error;
    if (error) setText($("problem"), WORDS[error.code] || `No answer: ${error.message}`);
  },
});
