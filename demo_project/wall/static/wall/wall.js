// The wall: shows the feed, keeps it current over the websocket, uploads straight to S3.

import { get, post, remove, signedIn, user } from "api";
import { askToSignIn, connect, toast } from "account";

const $ = (id) => document.getElementById(id);
const cards = new Map(); // photo id → element
const rows = new Map(); // upload rows by photo id, until the photo is ready
let next = null;
let shown = null; // the photo in the dialog

// ---- the feed

async function loadFeed() {
  const page = await get("/api/feed/");
  $("grid").replaceChildren();
  cards.clear();
  page.results.forEach((photo) => addCard(photo, "append"));
  showMore(page);
  $("grid").setAttribute("aria-busy", "false");
}

function showMore(page) {
  next = page.next && new URL(page.next, location.href);
  $("more").hidden = !next;
  $("empty").hidden = cards.size > 0;
}

$("more").addEventListener("click", async () => {
  const page = await get(next.pathname + next.search);
  page.results.forEach((photo) => addCard(photo, "append"));
  showMore(page);
});

function addCard(photo, where) {
  if (cards.has(photo.id)) return updateCounts(photo.id, photo);
  const card = document.createElement("article");
  card.className = "card";
  card.dataset.id = photo.id;
  card.style.setProperty("--ratio", `${photo.width} / ${photo.height}`);
  card.innerHTML = `<button class="open" type="button"><img loading="lazy" alt=""></button>
    <div class="caption"><div><b></b><span></span></div>
    <button class="count like" type="button" aria-label="Like">${icon("M12 20.5 3.8 12a5.2 5.2 0 0 1 8.2-6.3A5.2 5.2 0 0 1 20.2 12Z")}<span></span></button>
    <span class="count talk">${icon("M4 5h16v11H10l-5 4v-4H4Z")}<span></span></span></div>`;
  card.querySelector("img").src = photo.thumbnail;
  card.querySelector("img").alt = photo.title;
  card.querySelector("b").textContent = photo.title;
  card.querySelector(".caption span").textContent = `by ${photo.owner}`;
  card.querySelector(".open").addEventListener("click", () => openPhoto(photo));
  card.querySelector(".like").addEventListener("click", () => like(photo.id, card));
  cards.set(photo.id, card);
  updateCounts(photo.id, photo);
  $("grid")[where](card);
  $("empty").hidden = true;
}

function icon(path) {
  return `<svg viewBox="0 0 24 24" width="18" height="18" aria-hidden="true"><path d="${path}"/></svg>`;
}

function updateCounts(id, { likes, comments }) {
  const card = cards.get(id);
  if (!card) return;
  if (likes !== undefined) card.querySelector(".like span").textContent = likes;
  if (comments !== undefined) card.querySelector(".talk span").textContent = comments;
}

async function like(id, card) {
  if (!askToSignIn()) return;
  const button = card.querySelector(".like");
  const mine = button.getAttribute("aria-pressed") === "true";
  try {
    const answer = await (mine ? remove : post)(`/api/photos/${id}/like/`);
    button.setAttribute("aria-pressed", String(answer.liked));
    updateCounts(id, answer);
  } catch (error) {
    toast(error.message, "bad");
  }
}

async function loadHero() {
  const { photo } = await get("/api/photo-of-the-minute/");
  $("hero").hidden = !photo;
  if (!photo) return;
  $("hero-image").src = photo.large;
  $("hero-image").alt = photo.title;
  $("hero-title").textContent = photo.title;
  $("hero-by").textContent = `by ${photo.owner}`;
}

// ---- one photo, with its comments

async function openPhoto(photo) {
  shown = photo;
  $("photo-image").src = photo.large;
  $("photo-image").alt = photo.title;
  $("photo-title").textContent = photo.title;
  const taken = photo.taken_at ? ` · taken ${new Date(photo.taken_at).toLocaleDateString()}` : "";
  $("photo-meta").textContent = `by ${photo.owner} · ${photo.width} × ${photo.height}${taken}`;
  $("photo-remove").hidden = user()?.username !== photo.owner;
  $("comments").replaceChildren();
  $("photo").showModal();
  const comments = await get(`/api/photos/${photo.id}/comments/`);
  comments.forEach(addComment);
}

function addComment(comment) {
  if (document.getElementById(`comment-${comment.id}`)) return;
  const item = document.createElement("li");
  item.id = `comment-${comment.id}`;
  item.append(Object.assign(document.createElement("b"), { textContent: comment.author }), ` ${comment.text}`);
  $("comments").append(item);
  item.scrollIntoView({ block: "nearest" });
}

$("comment-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!askToSignIn()) return;
  const field = event.target.elements.text;
  try {
    addComment(await post(`/api/photos/${shown.id}/comments/`, { text: field.value }));
    field.value = "";
  } catch (error) {
    toast(error.message, "bad");
  }
});

$("photo-close").addEventListener("click", () => $("photo").close());
$("photo").addEventListener("click", (event) => event.target === $("photo") && $("photo").close());
$("photo-remove").addEventListener("click", async () => {
  await remove(`/api/photos/${shown.id}/`).catch((error) => toast(error.message, "bad"));
  $("photo").close();
});

// ---- uploads: the bytes go from here to S3, not through Django

$("choose").addEventListener("click", () => askToSignIn() && $("files").click());
$("files").addEventListener("change", () => { uploadAll($("files").files); $("files").value = ""; });
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  $("drop").addEventListener(name, (event) => { event.preventDefault(); $("drop").classList.toggle("over", over); });
}
$("drop").addEventListener("drop", (event) => askToSignIn() && uploadAll(event.dataTransfer.files));

function uploadAll(files) {
  [...files].forEach(upload);
}

async function upload(file) {
  const row = addRow(file.name);
  try {
    const title = file.name.replace(/\.[^.]+$/, "").replace(/[_-]+/g, " ");
    const intent = await post("/api/uploads/", { name: file.name, size: file.size, type: file.type, metadata: { title } });
    await put(intent, file, (fraction) => row.progress(fraction * 0.7, "uploading"));
    const { photo } = await post(`/api/uploads/${intent.id}/complete/`);
    if (cards.has(photo)) return row.done();
    rows.set(photo, row);
    row.progress(0.75, "a worker is on it");
  } catch (error) {
    row.failed(error.fields?.title?.[0] || error.message);
  }
}

function put({ url, method, headers }, file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch() cannot report the progress of an upload
    request.open(method, url);
    Object.entries(headers).forEach(([name, value]) => {
      if (name.toLowerCase() !== "content-length") request.setRequestHeader(name, value); // the browser's own
    });
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => (request.status < 300 ? resolve() : reject(new Error(`S3 refused the file (${request.status}).`)));
    request.onerror = () => reject(new Error("The upload was interrupted."));
    request.send(file);
  });
}

function addRow(name) {
  const item = document.createElement("li");
  item.innerHTML = `<span></span><progress max="1" value="0"></progress><small></small>`;
  item.querySelector("span").textContent = name;
  $("uploads").append(item);
  const bar = item.querySelector("progress");
  return {
    progress(value, text) { bar.value = value; item.querySelector("small").textContent = text; },
    done() { bar.value = 1; setTimeout(() => item.remove(), 800); },
    failed(text) { item.classList.add("bad"); item.querySelector("small").textContent = text; setTimeout(() => item.remove(), 8000); },
  };
}

// ---- what others do, as they do it

const on = {
  async "photo.ready"({ id }) {
    addCard(await get(`/api/photos/${id}/`), "prepend");
    rows.get(id)?.done();
    rows.delete(id);
  },
  "photo.progress"({ id, percent }) { rows.get(id)?.progress(0.75 + percent / 400, `thumbnails ${percent} %`); },
  "photo.failed"({ id, reason }) { rows.get(id)?.failed(reason); rows.delete(id); },
  "photo.liked"({ id, likes }) { updateCounts(id, { likes }); },
  "photo.commented"({ id, comments, comment }) {
    updateCounts(id, { comments });
    if (shown?.id === id) addComment(comment);
  },
  "photo.removed"({ id }) { cards.get(id)?.remove(); cards.delete(id); },
  "photo.picked": loadHero,
};

function listen() {
  const realtime = connect();
  if (!realtime) return;
  const hear = (event, data) => on[event]?.(data);
  realtime.join("wall", { onEvent: hear, onGap: loadFeed });
  if (user()) realtime.join(`user:${user().id}`, { onEvent: hear });
}

let listeningAs = null;
document.addEventListener("session", () => {
  if ((user()?.id ?? null) === listeningAs) return;
  listeningAs = user()?.id ?? null;
  if (signedIn()) listen();
});
listeningAs = user()?.id ?? null;
listen();
loadFeed().catch((error) => toast(error.message, "bad"));
loadHero().catch(() => {});
