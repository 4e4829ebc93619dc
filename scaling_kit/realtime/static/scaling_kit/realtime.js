/**
 * Rooms over one websocket that comes back by itself. No dependencies; types are in realtime.d.ts.
 *
 *     const realtime = new Realtime({ url: "/ws/", getToken: async ({ refresh }) => ... });
 *     realtime.join("wall", { onEvent: (event, data) => ..., onGap: () => reloadEverything() });
 *     realtime.on("status", (status) => ...);
 *
 * After a reconnect each room is resumed where it was: onEvent gets every event once, in order; if the server no
 * longer has them all, onGap says so, and events go on from there.
 */

const PROTOCOL = "kit.v1";
const UNAUTHENTICATED = 4401;
const MIN_DELAY_MS = 500;
const MAX_DELAY_MS = 20_000;
const SILENCE_MS = 25_000;
const ANSWER_MS = 10_000;

export class Realtime {
  #options;
  #socket = null;
  #status = "closed";
  #rooms = new Map();
  #listeners = new Map();
  #attempts = 0;
  #nextId = 1;
  #refresh = false;
  #timer = null;
  #watchdog = null;
  #generation = 0;

  constructor(options) {
    this.#options = { getToken: async () => null, WebSocket: globalThis.WebSocket, ...options };
    globalThis.addEventListener?.("online", () => this.#status === "waiting" && this.#open());
    this.connect();
  }

  /** "connecting", "open", "waiting" (for the next attempt), "unauthenticated" (needs `connect()`) or "closed". */
  get status() {
    return this.#status;
  }

  /** Connect, if it is not already so. Called by the constructor. */
  connect() {
    if (this.#status === "closed" || this.#status === "unauthenticated") this.#open();
  }

  /** Stop for good; `connect()` starts again, and resumes the rooms. */
  close() {
    this.#abandon();
    this.#setStatus("closed");
  }

  /** Join a room, or replace the handlers of a room. Returns a function that leaves it. */
  join(name, handlers = {}) {
    const room = this.#rooms.get(name) ?? { name, last: null, joinId: null, joined: false, retries: 0 };
    room.handlers = handlers;
    if (!this.#rooms.has(name)) {
      this.#rooms.set(name, room);
      if (this.#status === "open") this.#sendJoin(room);
    }
    return () => this.leave(name);
  }

  leave(name) {
    if (this.#rooms.delete(name) && this.#status === "open") this.#send({ type: "leave", room: name });
  }

  /** Listen to "status" (status, details) or "message" (every message of the server). Returns a function to stop. */
  on(name, listener) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(listener);
    return () => this.#listeners.get(name).delete(listener);
  }

  async #open() {
    this.#abandon();
    const generation = this.#generation;
    this.#setStatus("connecting");
    let token;
    try {
      token = await this.#options.getToken({ refresh: this.#refresh });
    } catch (error) {
      if (generation === this.#generation) this.#wait({ error });
      return;
    }
    if (generation !== this.#generation) return;
    if (this.#refresh && !token) return this.#setStatus("unauthenticated");
    this.#listen(token);
  }

  #listen(token) {
    const protocols = token ? [PROTOCOL, `bearer.${token}`] : [PROTOCOL];
    const socket = new this.#options.WebSocket(absolute(this.#options.url), protocols);
    const isCurrent = () => socket === this.#socket;
    this.#socket = socket;
    socket.onopen = () => isCurrent() && this.#opened();
    socket.onmessage = ({ data }) => isCurrent() && this.#heard(JSON.parse(data));
    socket.onclose = ({ code, reason }) => isCurrent() && this.#closed(code, reason);
  }

  #opened() {
    this.#setStatus("open");
    this.#watch();
    for (const room of this.#rooms.values()) this.#sendJoin(room);
  }

  #closed(code, reason) {
    const wasRefreshed = this.#refresh;
    this.#refresh = code === UNAUTHENTICATED;
    this.#abandon();
    if (this.#refresh && !wasRefreshed) this.#open();
    else this.#wait({ code, reason });
  }

  /** Wait longer after each failure, and not as long as everybody else who lost the same server. */
  #wait(details) {
    const ceiling = Math.min(MAX_DELAY_MS, MIN_DELAY_MS * 2 ** this.#attempts++);
    const delay = ceiling / 2 + (Math.random() * ceiling) / 2;
    this.#timer = setTimeout(() => this.#open(), delay);
    this.#setStatus("waiting", { ...details, delay });
  }

  /** Forget the socket and the timers; what still arrives from them is of no interest. */
  #abandon() {
    this.#generation++;
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    for (const room of this.#rooms.values()) room.joined = false;
  }

  #heard(message) {
    this.#watch();
    this.#emit("message", message);
    const room = this.#rooms.get(message.room) ?? this.#joining(message.id);
    if (message.type === "joined" && room?.joinId === message.id) this.#joined(room, message);
    else if (message.type === "error" && room) this.#refused(room, message);
    else if (message.type === "event" && room?.joined) this.#event(room, message);
    else if (message.type === "gap" && room?.joined) this.#gap(room, message);
  }

  #joined(room, { epoch, offset, recovered }) {
    const missed = room.last !== null && !recovered;
    this.#attempts = room.retries = 0;
    this.#refresh = false;
    room.joined = true;
    room.last = { epoch, offset };
    call(room.handlers.onJoined, { epoch, offset, recovered });
    if (missed) call(room.handlers.onGap);
  }

  #event(room, message) {
    if (message.offset <= room.last.offset) return;
    room.last = { epoch: room.last.epoch, offset: message.offset };
    call(room.handlers.onEvent, message.event, message.data, message);
  }

  #gap(room, { epoch, offset }) {
    room.last = { epoch, offset };
    call(room.handlers.onGap);
  }

  #refused(room, { code, detail }) {
    if (code === "unavailable") {
      const delay = Math.min(MAX_DELAY_MS, MIN_DELAY_MS * 2 ** room.retries++) * (0.5 + Math.random() / 2);
      const isWanted = () => this.#rooms.get(room.name) === room && this.#status === "open" && !room.joined;
      setTimeout(() => isWanted() && this.#sendJoin(room), delay);
      return;
    }
    this.#rooms.delete(room.name);
    if (room.handlers.onError) call(room.handlers.onError, code, detail);
    else console.error(`realtime: room ${room.name}: ${code}: ${detail}`);
  }

  #sendJoin(room) {
    room.joined = false;
    room.joinId = this.#nextId++;
    this.#send({ type: "join", room: room.name, id: room.joinId, last: room.last });
  }

  #joining(id) {
    return id === undefined ? undefined : [...this.#rooms.values()].find((room) => room.joinId === id);
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  /** A connection can be dead without a word (a laptop that slept): ask after a silence, and give it up. */
  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      this.#send({ type: "ping" });
      this.#watchdog = setTimeout(() => this.#closed(1006, "no answer"), ANSWER_MS);
    }, SILENCE_MS);
  }

  #setStatus(status, details = {}) {
    this.#status = status;
    this.#emit("status", status, details);
  }

  #emit(name, ...content) {
    for (const listener of this.#listeners.get(name) ?? []) call(listener, ...content);
  }
}

/** A page's own address, with the scheme of websockets. */
function absolute(url) {
  const address = new URL(url, globalThis.location?.href);
  address.protocol = address.protocol.replace(/^http/, "ws");
  return address.href;
}

/** A handler that fails must not cost the others their events. */
function call(handler, ...content) {
  try {
    handler?.(...content);
  } catch (error) {
    console.error(error);
  }
}
