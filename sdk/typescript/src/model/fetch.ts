import { GuardBlocked, GuardError, GuardUnavailable } from "../errors.js";
import type { Recorder } from "../recorder.js";
import type { Server } from "../server.js";
import { TransportError } from "../transport.js";
import { type Provider, route, unveil } from "./route.js";
import { type Block, watch } from "./stream.js";

/** A fetch, as clients take one. */
export type FetchLike = typeof globalThis.fetch;

/** What a guarded model call needs of its Guard. */
export interface ModelGuard {
  readonly client: string;
  readonly block: "raise" | "respond";
  readonly budgetMs: number;
  readonly onUnavailable: { texts: "allow" | "block"; tools: "allow" | "block" };
  readonly server: Server;
  readonly recorder: Recorder;
  readonly via: string | undefined;
  /** `asked`: whoever runs the tools asks about each call, so the server does not decide on those in answers. */
  readonly toolCalls?: "asked" | undefined;
  identity(): { session: string; user: string | undefined; parent: string | undefined };
  answered(): void;
}

/** How a guarded fetch behaves. */
export interface FetchOptions {
  onBlock: "response" | "throw";
  /** Reaches the provider when the guard cannot be asked and policy lets it pass. Default: the global fetch. */
  direct?: FetchLike | undefined;
  /** The API, where it is known. */
  provider?: Provider | undefined;
  /** The client's base URL, where it is known. */
  base?: string | undefined;
  /** Makes the error that ends a running stream. */
  error?: ((block: Block) => Error) | undefined;
}

/** A fetch that sends a provider's requests through the server. */
export function guardedFetch(guard: ModelGuard, options: FetchOptions): FetchLike {
  return async (input, init) => {
    const asked = await read(input, init);
    const { url, veiled } = unveil(asked.url);
    const direct = () => (options.direct ?? globalThis.fetch)(url, asked.init);
    const way = route(url, options.provider, options.base);
    if (!way) {
      // Beside its API, a client may fetch a token from somewhere; nothing of that is the model's.
      if (options.provider && !veiled) return await direct();
      throw new TypeError(
        `Guardbook cannot guard ${new URL(url).origin}${new URL(url).pathname}: the base URL must end with /v1 (OpenAI, Anthropic and what is compatible) or be Azure's. Where it is another, say which: guard.fetchWith({ baseURL }).`,
      );
    }
    const signal = asked.init.signal ?? undefined;
    signal?.throwIfAborted();
    const seq = guard.recorder.next();
    const { session, user, parent } = guard.identity();
    const note = (event: "unguarded" | "refused" | "unanswered", reason: string) =>
      guard.recorder.note({
        event,
        seq,
        via: guard.via ?? `typescript/${way.provider}`,
        kind: "input",
        session,
        reason,
      });

    let reason: string;
    try {
      if (!guard.server.breaker.allows())
        throw new TransportError("the server did not answer before; it is asked again in a few seconds", false);
      const { url: server, key } = await guard.server.ready(guard.budgetMs);
      const headers = new Headers(asked.init.headers);
      const set = (name: string, value: string | undefined) => {
        // Headers are bytes: a name that is not ASCII goes as its UTF-8.
        if (value !== undefined) headers.set(name, Buffer.from(value, "utf8").toString("latin1"));
      };
      set("x-guardbook-key", key);
      set("x-guardbook-session", session);
      set("x-guardbook-user", user);
      set("x-guardbook-parent", parent);
      set("x-guardbook-client", guard.client);
      set("x-guardbook-client-seq", String(seq));
      set("x-guardbook-block", guard.block);
      set("x-guardbook-tool-calls", guard.toolCalls);
      // A client that has the server as its base URL already is on the right way.
      const there = `${url}/`.startsWith(`${server}/`);
      if (!there) set("x-guardbook-upstream", way.upstream);
      const response = await send(guard, there ? url : server + way.path, { ...asked.init, headers });
      guard.server.succeeded();
      guard.answered();
      return await answer(response, options);
    } catch (err) {
      if (signal?.aborted) {
        note("unanswered", "the caller did not wait for the answer");
        throw err;
      }
      if (err instanceof GuardError && !(err instanceof GuardUnavailable)) throw err;
      if (!(err instanceof TransportError) && !(err instanceof GuardUnavailable)) {
        const cause = (err as { cause?: { code?: string; message?: string } }).cause;
        reason = cause?.code === "ECONNREFUSED" ? "connection refused" : (cause?.message ?? (err as Error).message);
        guard.server.failed(new TransportError(reason, cause?.code !== "ECONNREFUSED", { cause: err }));
      } else {
        reason = err.message;
      }
    }
    guard.recorder.away();
    const tools = offersTools(asked.init.body);
    if (guard.onUnavailable[tools ? "tools" : "texts"] === "allow") {
      note("unguarded", reason);
      return await direct();
    }
    note("refused", reason);
    const error = new GuardUnavailable(
      `Guardbook could not be asked (${reason}), and a model call ${tools ? "that offers tools " : ""}may not pass without it. Try again later.`,
    );
    if (options.onBlock === "throw") throw error;
    return unavailable(error);
  };
}

/** What an error body of the server says about a block. */
export function blockOf(body: unknown): Block | undefined {
  const block = (body as { error?: { guardbook?: Block } } | undefined)?.error?.guardbook;
  return typeof block === "object" && block !== null && typeof block.decision === "string" ? block : undefined;
}

/** What an error body says about a guard that could not decide. */
export function unavailableOf(body: unknown): GuardUnavailable | undefined {
  const error = (body as { error?: { code?: unknown; message?: unknown } } | undefined)?.error;
  if (error?.code !== "guard_unavailable" && error?.code !== "not_durable") return undefined;
  return new GuardUnavailable(String(error.message));
}

/** Reaches the server, which may have been restarted since: then a kept connection fails once. */
async function send(guard: ModelGuard, url: string, init: RequestInit): Promise<Response> {
  // A client's way out (a proxy, say) is for the provider.
  const own: RequestInit & { dispatcher?: unknown } = { ...init };
  delete own.dispatcher;
  try {
    return await globalThis.fetch(url, own);
  } catch (err) {
    if (init.signal?.aborted || (typeof init.body !== "string" && !ArrayBuffer.isView(init.body))) throw err;
    guard.server.doubt();
    await guard.server.ready(guard.budgetMs);
    return await globalThis.fetch(url, own);
  }
}

async function answer(response: Response, options: FetchOptions): Promise<Response> {
  const error = options.error ?? ((b: Block) => new GuardBlocked(b));
  if (response.status === 403 && options.onBlock === "throw") {
    const text = await response.text();
    let block: Block | undefined;
    try {
      block = blockOf(JSON.parse(text));
    } catch {
      // Not from Guardbook.
    }
    if (block) throw error(block);
    return new Response(text, response);
  }
  if (!response.body || !response.headers.get("content-type")?.startsWith("text/event-stream")) return response;
  const watched = new Response(watch(response.body, error), response);
  Object.defineProperty(watched, "url", { value: response.url });
  return watched;
}

function unavailable(error: GuardUnavailable): Response {
  const body = {
    type: "error",
    error: { type: "guard_unavailable", code: "guard_unavailable", message: error.message, param: null },
  };
  return new Response(JSON.stringify(body), {
    status: 503,
    headers: { "content-type": "application/json", "x-should-retry": "false" },
  });
}

/** A request in one form, whichever way it was given. */
async function read(
  input: string | URL | Request,
  init: RequestInit = {},
): Promise<{ url: string; init: RequestInit & { duplex?: "half" } }> {
  const out: RequestInit & { duplex?: "half" } = { ...init };
  if (typeof input === "string" || input instanceof URL) {
    // Some clients give a Node stream as the body.
    if (typeof out.body === "object" && out.body !== null && Symbol.asyncIterator in out.body) out.duplex = "half";
    return { url: String(input), init: out };
  }
  const request = new Request(input, init);
  out.method = request.method;
  out.headers = request.headers;
  out.signal = request.signal;
  if (request.body) out.body = await request.arrayBuffer();
  return { url: request.url, init: out };
}

/** Whether a request offers tools: then the answer may act. What cannot be read may be one that does. */
function offersTools(body: unknown): boolean {
  if (body === undefined || body === null) return false;
  let text: string;
  if (typeof body === "string") text = body;
  else if (body instanceof ArrayBuffer) text = Buffer.from(body).toString("utf8");
  else if (ArrayBuffer.isView(body)) text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("utf8");
  else return true;
  try {
    const o = JSON.parse(text) as Record<string, unknown>;
    return ["tools", "functions", "mcp_servers"].some((m) => Array.isArray(o[m]) && (o[m] as unknown[]).length > 0);
  } catch {
    return true;
  }
}
