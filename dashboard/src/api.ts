// The typed client of /api/v1. Every failure becomes an ApiError whose message can
// be shown to a person as it is.

import type { Action, Entry, Severity } from "./entry";
import { rawMember } from "./rawjson";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export interface Session {
  name: string;
  role?: string;
  /** false right after the one-time link, until the account has been created. */
  account?: boolean;
}

export interface Agent {
  agent: string;
  owner?: string;
  purpose?: string;
  /** The key's public id. */
  key?: string;
  /** No key opens anything for this agent until it is rotated. */
  keyless?: boolean;
  created?: string;
  rotated?: string;
  last_seen?: string;
  policy?: string;
  mode?: string;
  decisions?: Partial<Record<Action, number>>;
}

export interface Containment {
  containment: string;
  scope: string;
  by: string;
  reason: string;
  effective_at: string;
  until?: string;
  refused: number;
  cut: number;
  /** Its entry is known to be in the book. */
  recorded?: boolean;
}

export interface Alert {
  alert: string;
  state: string;
  severity: Severity;
  title?: string;
  agent?: string;
  session?: string;
  rule?: string;
  class?: string;
  owner?: string;
  receiver?: string;
  count?: number;
  opened?: string;
  updated?: string;
  event?: string;
  disposition?: string;
  /** Whether its newest notice reached the receiver: pending, delivered or undelivered. */
  delivery?: string;
  /** What was said when it was closed. */
  comment?: string;
  steps?: Record<string, unknown>[];
  notifications?: Record<string, unknown>[];
}

export interface PolicyText {
  policy: string;
  file: string;
  owner?: string;
  mode: string;
  agents: string[];
  text: string;
}

export interface Book {
  origin: string;
  size: number;
  checkpoint: string;
  key: string;
  fingerprint: string;
}

export interface Overview {
  agents?: number;
  open_alerts?: number;
  containments?: number;
  /** Decisions of the last 24 hours by action. */
  decisions?: Partial<Record<Action, number>>;
  /** Decisions of the last hour, minute by minute. */
  minutes?: { time: string; actions: Partial<Record<Action, number>> }[];
  heartbeat?: string;
  checkpoint?: { size: number; time?: string };
  size?: number;
}

export interface Filters {
  agent?: string;
  session?: string;
  class?: string;
  severity?: string;
  action?: string;
  type?: string;
  tool?: string;
  /** hide: without what the instance's own test interactions left. */
  canaries?: "hide";
}

export interface EventDetail {
  entry: Entry;
  /** The exact bytes of the entry, as hashed. */
  raw: Uint8Array;
  proof: string;
  /** Why there is no proof. */
  proof_missing?: string;
  /** The policy that was in force. */
  policy?: { name: string; file: string; bundle?: string; text: string };
  /** What the rules of the findings mean, by rule id. */
  rules?: Record<string, string>;
}

const base = "/api/v1/";

/** unauthorized is told when an answer says that the session is gone. */
let unauthorized: () => void = () => {};
export function onUnauthorized(f: () => void) {
  unauthorized = f;
}

async function failure(r: Response): Promise<ApiError> {
  let code = String(r.status);
  let message = `the server answered ${r.status} ${r.statusText}`.trim();
  try {
    const b = (await r.json()) as { error?: { code?: string; message?: string } };
    if (b.error?.message) message = b.error.message;
    if (b.error?.code) code = b.error.code;
  } catch {
    // Not JSON: the status line is what there is to say.
  }
  if (r.status === 401) unauthorized();
  return new ApiError(r.status, code, message);
}

/** send makes one request; an answer that is no success is thrown as an ApiError. */
export async function send(method: string, path: string, body?: unknown, init: RequestInit = {}): Promise<Response> {
  let r: Response;
  const headers = new Headers(init.headers);
  if (!headers.has("Accept")) headers.set("Accept", "application/json");
  if (body !== undefined) headers.set("Content-Type", "application/json");
  // No form and no image of another site can send this header.
  if (method !== "GET") headers.set("X-Guardbook-CSRF", "1");
  try {
    r = await fetch(base + path, {
      ...init,
      method,
      headers,
      credentials: "same-origin",
      cache: "no-store",
      body: body === undefined ? null : JSON.stringify(body),
    });
  } catch (e) {
    if (e instanceof DOMException && e.name === "AbortError") throw e;
    throw new ApiError(0, "unreachable", "The server does not answer. Is guardbook still running, and is the network up?");
  }
  if (!r.ok) throw await failure(r);
  return r;
}

async function json<T>(method: string, path: string, body?: unknown, init?: RequestInit): Promise<T> {
  const r = await send(method, path, body, init);
  const t = await r.text();
  return (t === "" ? {} : JSON.parse(t)) as T;
}

/** list reads an answer that is a list, bare or as the one member that is an array. */
async function list<T>(path: string, init?: RequestInit): Promise<T[]> {
  const v = await json<unknown>("GET", path, undefined, init);
  if (Array.isArray(v)) return v as T[];
  const inner = Object.values((v ?? {}) as object).find(Array.isArray);
  return (inner ?? []) as T[];
}

export function query(params: Record<string, string | number | undefined>): string {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params)) if (v !== undefined && v !== "") q.set(k, String(v));
  const s = q.toString();
  return s ? `?${s}` : "";
}

const seg = encodeURIComponent;

export const api = {
  session: () => json<Session>("GET", "session"),
  loginOnce: (token: string) => json<Session>("POST", "login/once", { token }),
  createAccount: (name: string, password: string) => json<Session>("POST", "account", { name, password }),
  login: (name: string, password: string) => json<Session>("POST", "login", { name, password }),
  logout: () => json("POST", "logout"),

  overview: (signal?: AbortSignal) => json<Overview>("GET", "overview", undefined, { signal: signal ?? null }),

  events: async (f: Filters & { since?: string; until?: string; after?: number; before?: number; limit?: number; order?: "asc" | "desc" }, signal?: AbortSignal) =>
    list<Entry>("events" + query({ ...f }), { signal: signal ?? null }),

  event: async (id: string, signal?: AbortSignal): Promise<EventDetail> => {
    const r = await send("GET", `events/${seg(id)}`, undefined, { signal: signal ?? null });
    const bytes = new Uint8Array(await r.arrayBuffer());
    const parsed = JSON.parse(new TextDecoder().decode(bytes)) as EventDetail;
    const raw = rawMember(bytes, "entry");
    if (!raw) throw new ApiError(0, "malformed", "The server's answer holds no entry.");
    return { ...parsed, raw };
  },

  agents: () => list<Agent>("agents"),
  createAgent: (name: string, owner: string, purpose: string) => json<{ agent: unknown; key: string }>("POST", "agents", { name, owner, purpose }),
  rotateAgent: (name: string) => json<{ agent: unknown; key: string }>("POST", `agents/${seg(name)}/rotate`),
  removeAgent: (name: string) => json("DELETE", `agents/${seg(name)}`),

  containments: () => list<Containment>("containments"),
  kill: (scope: string, reason: string, duration: string) =>
    json<{ entry: string; scope: string; effective_at: string }>("POST", "kill", duration ? { scope, reason, for: duration } : { scope, reason }),
  lift: (scope: string, reason: string) => json<{ entry: string; scope: string; refused: number; cut: number }>("POST", "lift", { scope, reason }),

  alerts: (state: string) => list<Alert>("alerts" + query({ state })),
  alert: (id: string) => json<Alert>("GET", `alerts/${seg(id)}`),
  ackAlert: (id: string, comment: string) => json("POST", `alerts/${seg(id)}/ack`, { comment }),
  assignAlert: (id: string, owner: string) => json("POST", `alerts/${seg(id)}/assign`, { owner }),
  closeAlert: (id: string, disposition: string, comment: string) => json("POST", `alerts/${seg(id)}/close`, { disposition, comment }),

  policies: () => json<{ bundle: string; policies: PolicyText[] }>("GET", "policies"),
  book: () => json<Book>("GET", "book"),

  evidence: async (from: string, to: string): Promise<Blob> => {
    const r = await send("POST", "evidence", { from, to }, { headers: { Accept: "application/zip" } });
    return r.blob();
  },
};
