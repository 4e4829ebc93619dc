export type Status = "connecting" | "open" | "waiting" | "unauthenticated" | "closed";

export interface Position {
  epoch: string;
  offset: number;
}

export interface EventMessage<Data = unknown> {
  type: "event";
  room: string;
  event: string;
  data: Data;
  offset: number;
}

export interface StatusDetails {
  /** Close code and reason of the connection that ended. */
  code?: number;
  reason?: string;
  /** What `getToken` threw. */
  error?: unknown;
  /** Milliseconds until the next attempt. */
  delay?: number;
}

export type JoinError = "unknown_room" | "forbidden" | "bad_message" | "too_large" | "too_many_rooms";

export interface RoomHandlers<Data = any> {
  /** Every event once, in order. */
  onEvent?(event: string, data: Data, message: EventMessage<Data>): void;
  onJoined?(joined: Position & { recovered: boolean }): void;
  /** Events were missed that the server no longer has: fetch the state anew. */
  onGap?(): void;
  /** The room was refused, and is not tried again. Without it, console.error. */
  onError?(code: JoinError, detail: string): void;
}

export interface RealtimeOptions {
  /** Absolute or relative to the page; http(s) becomes ws(s). */
  url: string;
  /**
   * Called before each connection; `refresh` is true when the server refused or ended the last one for its token.
   * No token then means "unauthenticated": no further attempt before `connect()`. If it throws, it is tried again.
   */
  getToken?(request: { refresh: boolean }): Promise<string | null | undefined> | string | null | undefined;
  /** Where there is no global one, or for tests. */
  WebSocket?: typeof WebSocket;
}

export class Realtime {
  constructor(options: RealtimeOptions);
  readonly status: Status;
  connect(): void;
  close(): void;
  join<Data = any>(room: string, handlers?: RoomHandlers<Data>): () => void;
  leave(room: string): void;
  on(name: "status", listener: (status: Status, details: StatusDetails) => void): () => void;
  on(name: "message", listener: (message: Record<string, unknown>) => void): () => void;
}
