// Talks to the API: adds the access token, renews it when it has run out, and turns refusals into Error objects.

const STORE = "photo-wall-session";
let session = JSON.parse(sessionStorage.getItem(STORE) || "null");
let refreshing = null;
const listeners = [];

export class ApiError extends Error {
  constructor(status, body) {
    super(body.detail || `The server answered ${status}.`);
    this.status = status;
    this.code = body.code || "error";
    this.fields = body.fields || {};
  }
}

export const signedIn = () => session !== null;
export const user = () => session && session.user;
export const onServedBy = (listener) => listeners.push(listener);

export async function signIn(username, password) {
  const pair = await send("POST", "/api/token/", { username, password });
  keep({ ...pair, expires_at: Date.now() + pair.expires_in * 1000 });
  keep({ ...session, user: await get("/api/me/") });
}

export async function signOut() {
  await post("/api/token/logout/", { refresh: session.refresh }).catch(() => {});
  keep(null);
}

// A token that is good for another ten seconds at least; null when nobody is signed in.
export async function accessToken({ refresh: refused = false } = {}) {
  if (session && (refused || Date.now() > session.expires_at - 10_000)) await refresh();
  return session && session.access;
}

export const get = (path) => authorized("GET", path);
export const post = (path, body) => authorized("POST", path, body ?? {});
export const remove = (path) => authorized("DELETE", path);

async function authorized(method, path, body) {
  const token = await accessToken();
  try {
    return await send(method, path, body, token);
  } catch (error) {
    if (error.status !== 401 || !session) throw error;
    await refresh();
    return send(method, path, body, session && session.access);
  }
}

async function send(method, path, body, token) {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  for (const tell of listeners) tell(response.headers.get("X-Served-By"), response.headers.get("X-Cache"));
  const data = response.status === 204 ? null : await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, data);
  return data;
}

// Several requests may find the token expired at once: they share one renewal.
function refresh() {
  refreshing ??= renew().finally(() => { refreshing = null; });
  return refreshing;
}

async function renew() {
  try {
    const pair = await send("POST", "/api/token/refresh/", { refresh: session.refresh });
    keep({ ...session, ...pair, expires_at: Date.now() + pair.expires_in * 1000 });
  } catch (error) {
    if (error.status === 401 || error.status === 400) keep(null);
    throw error;
  }
}

function keep(next) {
  session = next;
  if (next) sessionStorage.setItem(STORE, JSON.stringify(next));
  else sessionStorage.removeItem(STORE);
  document.dispatchEvent(new CustomEvent("session", { detail: next && next.user }));
}
