// What every page has: signing in and out, the live light, toasts, and the line that says who served it.

import { Realtime } from "realtime";
import { accessToken, onServedBy, signIn, signOut, signedIn, user } from "api";

const $ = (id) => document.getElementById(id);
const dialog = $("sign-in");
let connection = null;

export function connect() {
  if (connection || !signedIn()) return connection;
  connection = new Realtime({ url: document.body.dataset.websocketUrl || "/ws/", getToken: accessToken });
  connection.on("status", showLive);
  return connection;
}

export function askToSignIn() {
  if (!signedIn()) dialog.showModal();
  return signedIn();
}

export function toast(text, kind = "") {
  const note = document.createElement("p");
  note.className = `toast ${kind}`;
  note.textContent = text;
  $("toasts").append(note);
  setTimeout(() => note.remove(), 4000);
}

function showLive(status) {
  $("live").dataset.status = status;
  $("live").lastElementChild.textContent = { open: "live", connecting: "connecting…" }[status] || "offline";
}

function showAccount() {
  $("account").textContent = signedIn() ? `${user()?.username ?? ""} · sign out` : "Sign in";
}

$("account").addEventListener("click", async () => {
  if (!signedIn()) return dialog.showModal();
  await signOut();
  connection?.close();
  connection = null;
  showLive("closed");
});

$("sign-in-form").addEventListener("submit", async (event) => {
  if (event.submitter?.value !== "ok") return;
  event.preventDefault();
  const form = new FormData(event.target);
  try {
    await signIn(form.get("username"), form.get("password"));
    dialog.close();
  } catch (error) {
    $("sign-in-error").textContent = error.message;
    $("sign-in-error").hidden = false;
  }
});

document.addEventListener("session", showAccount);
onServedBy((process, cache) => {
  if (process) $("served").textContent = `Last answer by ${process}${cache ? ` · cache ${cache.split(";")[0].toLowerCase()}` : ""}`;
});
showAccount();
