/**
 * Guardbook for MCP: clients and servers of `@modelcontextprotocol/sdk` 1.x and of
 * `@modelcontextprotocol/client` and `/server` 2.x.
 *
 * ```ts
 * import { guardTransport } from "guardbook/mcp";
 * await client.connect(guardTransport(guard, transport, { server: "crm" }));
 * ```
 *
 * @module
 */
import { GuardBlocked, GuardUnavailable } from "../errors.js";
import type { Context } from "../interaction.js";
import { registerWrapper } from "../wrappers.js";
import { blockedBy, type Decider, Judge, type Scope } from "./inner/judge.js";
import { fits, type Json, type Message, mirror, type Request, read } from "./inner/mcp-message.js";

export { blockedBy };

const via = "typescript/mcp";

/** JSON-RPC's code for what policy does not allow, of MCP's range for implementations. */
const blockedCode = -32010;

// A list that was filtered for one agent is not to be shared, and a kill or a new policy
// must reach it within a minute.
const longestTTL = 60_000;

/** How {@link guardTransport} works. */
export interface TransportOptions extends Omit<Context, "via" | "signal"> {
  /** The name under which you know the server: policies and the book name it. What a server calls itself is not to be trusted. */
  server?: string;
}

/** What the guard needs of a transport. Everything else that one has is passed on. */
export interface Transport {
  start(): Promise<void>;
  // biome-ignore lint/suspicious/noExplicitAny: the message's type differs between the SDKs
  send(message: any, options?: any): Promise<void>;
  close(): Promise<void>;
}

/** What the guard needs of a client. */
export interface Client {
  // biome-ignore lint/suspicious/noExplicitAny: the transport's type differs between the SDKs
  connect(transport: any, options?: any): Promise<void>;
}

/**
 * A transport that judges every message between a client and its server, in both
 * directions: calls of tools before they go out, results before they come in, the
 * definitions of tools (what is poisoned is left out), resources, prompts, sampling and
 * elicitation. Give it to `connect` of a client, or of a server.
 *
 * A denied call, or its denied result, is a result with `isError`, which the model
 * reads. What has no such form is the JSON-RPC error -32010.
 */
export function guardTransport<T extends Transport>(guard: Decider, transport: T, options: TransportOptions = {}): T {
  const wire = new Wire(new Judge(guard, via), transport as unknown as Line, options);
  return new Proxy(transport, {
    get(target, member) {
      if (member === "send") return wire.send;
      if (member === "onmessage") return wire.deliver;
      const value: unknown = Reflect.get(target, member, target);
      // Methods run on the transport itself, which may keep private state.
      const method = typeof value === "function" && !String(member).startsWith("on") && member !== "constructor";
      return method ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
    set(target, member, value) {
      if (member !== "onmessage") return Reflect.set(target, member, value, target);
      wire.listen(value as Deliver | undefined);
      return true;
    },
  });
}

/** A client whose `connect` guards the transport. Everything else is the client's own. */
export function guardClient<C extends Client>(guard: Decider, client: C, options: TransportOptions = {}): C {
  return new Proxy(client, {
    get(target, member) {
      if (member === "connect") {
        return (transport: Transport, ...rest: unknown[]) =>
          (target.connect as (...args: unknown[]) => Promise<void>)(guardTransport(guard, transport, options), ...rest);
      }
      const value: unknown = Reflect.get(target, member, target);
      const method = typeof value === "function" && !String(member).startsWith("on") && member !== "constructor";
      return method ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
    set: (target, member, value) => Reflect.set(target, member, value, target),
  });
}

registerWrapper({
  module: "mcp",
  matches: (o) => {
    const has = (...names: string[]) => names.every((n) => typeof (o as Record<string, unknown>)[n] === "function");
    return has("start", "send", "close") || has("connect", "callTool", "listTools");
  },
  wrap: (guard, value, context) =>
    typeof (value as Partial<Client>).connect === "function"
      ? guardClient(guard, value as Client, context)
      : guardTransport(guard, value as Transport, context),
});

type Deliver = (message: Message, extra?: unknown) => void;

/** The members of a transport that the wire itself uses. */
interface Line {
  send(message: Message, options?: SendOptions): Promise<void>;
  onmessage?: Deliver | undefined;
  onerror?: ((error: Error) => void) | undefined;
}

interface SendOptions {
  headers?: Readonly<Record<string, string>>;
  requestSignal?: AbortSignal;
  [member: string]: unknown;
}

/** What becomes of a message: it goes on, perhaps changed, or its sender gets an answer instead; or neither. */
interface Outcome {
  message?: Message;
  answer?: Message;
}

/** The way between one client and one server. */
class Wire {
  /** The receiver of what comes in. */
  deliver: Deliver | undefined;
  // Requests that wait for their answer. Ids of the two directions have nothing to do with each other.
  readonly #waiting = { out: new Map<string, Request>(), in: new Map<string, Request>() };
  // Tools that were left out of the list, with the reason: they are not called either.
  readonly #refused = new Map<string, string>();
  // Messages are judged side by side and pass in the order in which they came.
  #outgoing: Promise<unknown> | undefined;
  #incoming: Promise<unknown> | undefined;

  constructor(
    readonly judge: Judge,
    readonly line: Line,
    readonly options: TransportOptions,
  ) {}

  readonly send = async (message: Message, options?: SendOptions): Promise<void> => {
    const outcome = this.#judged("out", message, { ...this.#scope(), signal: options?.requestSignal });
    const turn = this.#outgoing;
    const mine = turn || outcome instanceof Promise ? Promise.allSettled([turn, outcome]) : undefined;
    this.#outgoing = mine;
    try {
      await turn;
      const { message: passed, answer } = outcome instanceof Promise ? await outcome : outcome;
      if (answer) queueMicrotask(() => this.deliver?.(answer));
      if (!passed) return;
      const given =
        options?.headers && passed !== message
          ? { ...options, headers: mirror(options.headers, message, passed) }
          : options;
      // The next message does not wait for this one to arrive: a POST may take as long as its answer.
      await this.line.send(passed, given);
    } finally {
      if (this.#outgoing === mine) this.#outgoing = undefined;
    }
  };

  /** Takes the receiver of what comes in. */
  listen(deliver: Deliver | undefined): void {
    this.deliver = deliver;
    this.line.onmessage = deliver && ((message, extra) => this.#receive(message, extra));
  }

  #receive(message: Message, extra: unknown): void {
    const outcome = this.#judged("in", message, this.#scope());
    if (!this.#incoming && !(outcome instanceof Promise)) {
      this.#pass(outcome, extra);
      return;
    }
    const turn = this.#incoming;
    const mine = (async () => {
      await turn;
      try {
        this.#pass(await outcome, extra);
      } catch (error) {
        this.line.onerror?.(error as Error);
      }
    })();
    this.#incoming = mine;
    void mine.then(() => {
      if (this.#incoming === mine) this.#incoming = undefined;
    });
  }

  #pass({ message, answer }: Outcome, extra: unknown): void {
    if (answer) void this.line.send(answer).catch((error: unknown) => this.line.onerror?.(error as Error));
    if (message) this.deliver?.(message, extra);
  }

  #scope(): Scope {
    const { server: _, ...scope } = this.options;
    return scope;
  }

  // ---- judging

  #judged(direction: "in" | "out", message: Message, scope: Scope): Outcome | Promise<Outcome> {
    const m = read(message);
    const other = direction === "out" ? "in" : "out";
    if (m.kind === "request") {
      const request: Request = { id: m.id, method: m.method, params: m.params };
      this.#waiting[direction].set(key(m.id), request);
      const judged = this.#request(request, message, scope);
      return judged.then(
        (outcome) => {
          if (!outcome.message) this.#waiting[direction].delete(key(m.id));
          return outcome;
        },
        (error: unknown) => {
          this.#waiting[direction].delete(key(m.id));
          if (direction === "out") throw error;
          return { answer: failure(m.id, said(error)) };
        },
      );
    }
    if (m.kind === "answer") {
      const request = this.#waiting[other].get(key(m.id));
      this.#waiting[other].delete(key(m.id));
      if (!request) return { message }; // the receiver knows no such request either
      return this.#answer(request, message, scope).then(
        (passed) => ({ message: passed }),
        // Whoever waits for this must hear something.
        (error: unknown) => ({ message: denial(request, said(error)) }),
      );
    }
    return this.#notification(m.method, message, scope);
  }

  #tool(name: string) {
    return { server: this.options.server, name };
  }

  /** Judges a request on its way to whoever carries it out. */
  async #request(request: Request, message: Message, scope: Scope): Promise<Outcome> {
    const { method, params } = request;
    const refuse = (why: string): Outcome => ({ answer: denial(request, why) });
    try {
      switch (method) {
        case "tools/call": {
          const name = String(params.name ?? "");
          const poisoned = this.#refused.get(name);
          if (poisoned !== undefined) return refuse(poisoned);
          const [verdict] = await Promise.all([
            this.judge.call({ ...this.#tool(name), callId: String(request.id) }, params.arguments, scope),
            this.#outbound(params.inputResponses, name, scope),
          ]);
          if (verdict.denied !== undefined) return refuse(verdict.denied);
          if (verdict.args === params.arguments || params.arguments === undefined) return { message };
          return { message: withParams(message, { ...params, arguments: verdict.args }) };
        }
        case "resources/read":
        case "prompts/get":
        case "completion/complete": {
          const { _meta, requestState, ...told } = params;
          await this.#outbound(told, method, scope);
          return { message };
        }
        case "sampling/createMessage":
        case "elicitation/create": {
          const { _meta, ...asked } = params;
          const after = await this.#inbound(asked, method, scope);
          return after === asked ? { message } : { message: withParams(message, { ...params, ...(after as Json) }) };
        }
        default:
          return { message };
      }
    } catch (error) {
      if (error instanceof GuardBlocked || error instanceof GuardUnavailable) return refuse(error.message);
      throw error;
    }
  }

  /** Judges an answer on its way back. */
  async #answer(request: Request, message: Message, scope: Scope): Promise<Message> {
    const { method, params } = request;
    if (message.error !== undefined) {
      const error = message.error as Json;
      const words = { message: error.message, data: error.data };
      const after = (await this.#inbound(words, named(method, params), scope)) as Json;
      return after === words ? message : { ...message, error: { ...error, ...after } };
    }
    const result = message.result as Json | undefined;
    if (typeof result !== "object" || result === null) return message;
    const put = (changes: Json): Message => ({ ...message, result: { ...result, ...changes } });

    if (result.inputRequests !== undefined) {
      // The server's own questions, within a result (2026-07-28).
      await this.#unchanged(result.inputRequests, named(method, params), scope);
    }
    switch (method) {
      case "tools/list":
        return put({ ...(await this.#list("tools", result, scope)), ...lifetime(result) });
      case "prompts/list":
        return put(await this.#list("prompts", result, scope));
      case "resources/list":
        return put(await this.#list("resources", result, scope));
      case "resources/templates/list":
        return put(await this.#list("resourceTemplates", result, scope));
      case "initialize":
      case "server/discover": {
        const words = result.instructions;
        if (typeof words !== "string") return message;
        const fine = await this.judge.definition(this.#tool("instructions"), words, scope);
        return fine ? message : put({ instructions: undefined });
      }
      case "tools/call":
      case "resources/read":
      case "prompts/get":
      case "completion/complete":
      case "tasks/result": {
        const { _meta, requestState, resultType, isError, inputRequests, ttlMs, cacheScope, ...words } = result;
        const after = await this.#inbound(words, named(method, params), scope);
        return after === words ? message : put(after as Json);
      }
      case "sampling/createMessage":
      case "elicitation/create": {
        const { _meta, action, model, role, stopReason, ...words } = result;
        await this.#outbound(words, method, scope);
        return message;
      }
      default:
        return message;
    }
  }

  /** What a server tells meanwhile: a log line or the words of a progress may hold anything. */
  #notification(method: string, message: Message, scope: Scope): Outcome | Promise<Outcome> {
    const params = (message.params ?? {}) as Json;
    const words =
      method === "notifications/message"
        ? params.data
        : method === "notifications/progress"
          ? params.message
          : undefined;
    if (words === undefined) return { message };
    return this.#inbound(words, method, scope).then(
      (after) => {
        if (after === words) return { message };
        return {
          message: withParams(message, { ...params, [method === "notifications/message" ? "data" : "message"]: after }),
        };
      },
      (error: unknown) => {
        if (error instanceof GuardBlocked || error instanceof GuardUnavailable) return {};
        throw error;
      },
    );
  }

  /** Judges what leaves for the server besides a tool's arguments. What would have to be redacted does not leave. */
  async #outbound(value: unknown, name: string, scope: Scope): Promise<void> {
    if ((await this.judge.value("output", value, scope, { tool: this.#tool(name) })) === value) return;
    throw new GuardBlocked(own("This holds data that may not go to this server. Do not retry."));
  }

  /**
   * Judges what comes from the server. Gives back the very value when it may pass as it
   * is, or one of the same shape.
   */
  async #inbound(value: unknown, name: string, scope: Scope): Promise<unknown> {
    const out = await this.judge.value("tool_result", value, scope, { tool: this.#tool(name) });
    // A client checks a result against its tool's schema, and throws when it does not fit.
    if (out !== value && !fits(value, out)) {
      throw new GuardBlocked(own("The result held data that may not be read here. Do not retry."));
    }
    return out;
  }

  async #unchanged(value: unknown, name: string, scope: Scope): Promise<void> {
    if ((await this.#inbound(value, name, scope)) !== value) {
      throw new GuardBlocked(own("The server asked for something that may not be read here. Do not retry."));
    }
  }

  /** A list without the entries that may not be known. */
  async #list(member: string, result: Json, scope: Scope): Promise<Json> {
    const list = result[member];
    if (!Array.isArray(list)) return {};
    const passed = await Promise.all(
      list.map(async (entry: Json) => {
        const name = String(entry.name ?? entry.uri ?? member);
        const { _meta, icons, ...definition } = entry;
        const fine = await this.judge.definition(this.#tool(name), definition, scope);
        if (member === "tools" && fine) this.#refused.delete(name);
        if (member === "tools" && !fine)
          this.#refused.set(
            name,
            `The tool ${JSON.stringify(name)} is not allowed: its definition was refused. Choose another approach; do not retry.`,
          );
        return fine;
      }),
    );
    return passed.every(Boolean) ? {} : { [member]: list.filter((_, i) => passed[i]) };
  }
}

function key(id: unknown): string {
  return `${typeof id}:${String(id)}`; // 1 and "1" are two ids
}

function named(method: string, params: Json): string {
  return method === "tools/call" ? String(params.name ?? "") : method;
}

function withParams(message: Message, params: Json): Message {
  return { ...message, params };
}

function lifetime(result: Json): Json {
  const ttl = result.ttlMs;
  return typeof ttl === "number" ? { ttlMs: Math.min(ttl, longestTTL), cacheScope: "private" } : {};
}

function own(message: string) {
  return { decision: "block", entry: "", rule: "", severity: "medium", message } as const;
}

function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function failure(id: unknown, message: string): Message {
  return { jsonrpc: "2.0", id, error: { code: blockedCode, message } };
}

/** How a request's sender is told that it was denied. */
function denial(request: Request, why: string): Message {
  if (request.method !== "tools/call") return failure(request.id, why);
  return {
    jsonrpc: "2.0",
    id: request.id,
    // resultType is for clients of 2026-07-28; older ones pass over it.
    result: { resultType: "complete", content: [{ type: "text", text: why }], isError: true },
  };
}
