import { createHash, randomUUID } from "node:crypto";
import { GuardBlocked, GuardError, GuardUnavailable } from "./errors.js";
import type { Content, Context, Decision, Interaction, Kind, Tool } from "./interaction.js";
import { denies } from "./interaction.js";
import { Line } from "./line.js";
import { wrapClient } from "./model/clients.js";
import { type FetchLike, guardedFetch, type ModelGuard } from "./model/fetch.js";
import { Recorder } from "./recorder.js";
import { Server } from "./server.js";
import { currentIdentity, type Identity, withIdentity } from "./session.js";
import { checkName, type GuardOptions, load, nameable, type Settings } from "./settings.js";
import type { Answer } from "./transport.js";
import { wrapWith, wrapWithLoaded } from "./wrappers.js";

/** What came of a tool call, or of a tool's result, for the code that runs tools. */
export type Verdict<T> =
  | { allowed: true; value: T; decision: Decision }
  | {
      allowed: false;
      /** For the model, as the tool's error result. */
      message: string;
      error: GuardBlocked | GuardUnavailable;
    };

/** {@link Context} for a client of a model provider. */
export interface ModelContext extends Context {
  /**
   * `asked`: whoever runs the tools asks about each call before it runs (guard.toolCall, or
   * a framework's module). Those in the model's answers are then decided on and recorded as
   * `deferred`, and not withheld: a denied one does not end the run.
   */
  toolCalls?: "asked" | undefined;
}

const one = "/v1/inspect";
const batch = "/v1/inspect/batch";
const kinds: readonly Kind[] = ["input", "output", "tool_call", "tool_result", "tool_definition", "memory"];

/**
 * Guards one agent: every interaction is decided on by a Guardbook server before it
 * happens, and kept in its book.
 *
 * ```ts
 * const guard = new Guard({ agent: "billing-bot" });
 * const client = guard.wrap(new OpenAI());
 * ```
 *
 * Making one starts nothing: the server is looked for, or started, with the first
 * question. Each Guard is a client of its own to the server, with its own numbers.
 */
export class Guard {
  readonly #settings: Settings;
  readonly #server: Server;
  readonly #line: Line;
  readonly #recorder: Recorder;
  readonly #session: string;
  #adopted = false;

  constructor(options?: GuardOptions) {
    this.#settings = load(options);
    this.#session = this.#settings.session || `s-${randomUUID()}`;
    this.#server = new Server(this.#settings);
    this.#line = new Line(this.#server);
    this.#recorder = new Recorder({
      data: this.#settings.data,
      owner: `${this.#settings.url || "local"} ${this.#settings.agent || this.#settings.key}`,
      send: (body) => this.#record(body),
      log: this.#settings.log,
      ending: (is) => {
        this.#server.ending = is;
      },
    });
  }

  /** The agent's name; empty when only its key is known here. */
  get agent(): string {
    return this.#settings.agent;
  }

  /** The id of this client, as the server knows it. */
  get client(): string {
    return this.#recorder.client;
  }

  /** Makes sure that the server is there, and starts the local one if need be. Calling it is optional. */
  async start(): Promise<{ url: string }> {
    const { url } = await this.#server.connect();
    return { url };
  }

  /**
   * Runs fn in a session: every interaction in it, also in what it starts, belongs to
   * the session, whatever a framework calls it.
   */
  session<T>(session: string | Identity, fn: () => T): T {
    const identity = typeof session === "string" ? { session } : session;
    for (const [name, value] of Object.entries(identity)) if (value !== undefined) checkName(name, value);
    return withIdentity(identity, fn);
  }

  /** Who an interaction belongs to, by what its context and the surrounding session say. */
  identity(context: Context = {}): { session: string; user: string | undefined; parent: string | undefined } {
    const around = currentIdentity();
    const s = this.#settings;
    for (const which of ["session", "user", "parent"] as const) {
      const given = context[which];
      if (given !== undefined) checkName(which, given);
    }
    return {
      session: context.session ?? around.session ?? name(context.thread) ?? this.#session,
      user: context.user ?? around.user ?? s.user,
      parent: context.parent ?? around.parent ?? s.parent,
    };
  }

  /**
   * Asks for a decision on one interaction.
   *
   * @returns the decision, also when it is to block: see {@link denies}. When there is
   * none and the failure mode lets the interaction pass, a decision that is `unguarded`.
   * @throws {GuardUnavailable} when there is no decision and the failure mode is to refuse.
   * @throws {GuardError} when the server refuses the question itself: a wrong key, for example.
   */
  async decide(interaction: Interaction): Promise<Decision> {
    const ask = this.#prepare(interaction);
    const text = encode(ask);
    interaction.signal?.throwIfAborted();
    const seq = this.#recorder.next();
    const body = this.#numbered(text, seq);
    const answer = await this.#ask(one, body, [{ ask, seq }], interaction.signal);
    return typeof answer === "string" ? this.#without(ask, seq, answer) : (answer as Decision);
  }

  /** Asks for decisions on up to 256 interactions at once; see {@link Guard.decide}. */
  async decideAll(interactions: readonly Interaction[], signal?: AbortSignal): Promise<Decision[]> {
    if (interactions.length === 0) return [];
    if (interactions.length > 256)
      throw new RangeError(`decideAll takes up to 256 interactions, not ${interactions.length}.`);
    const asked = interactions.map((i) => {
      const ask = this.#prepare(i);
      return { ask, text: encode(ask) };
    });
    signal?.throwIfAborted();
    const asks = asked.map((a) => ({ ...a, seq: this.#recorder.next() }));
    const list = asks.map(({ text, seq }) => this.#numbered(text, seq));
    const answer = await this.#ask(batch, `{"interactions":[${list.join(",")}]}`, asks, signal);
    if (typeof answer !== "string") {
      return (answer as { decisions: Decision[] }).decisions;
    }
    const out: Decision[] = [];
    let refused: unknown;
    for (const { ask, seq } of asks) {
      try {
        out.push(this.#without(ask, seq, answer));
      } catch (err) {
        refused = err;
      }
    }
    if (refused) throw refused;
    return out;
  }

  /**
   * Has a text decided on, and gives it back as it may be used: with secrets redacted
   * where policy says so.
   *
   * @throws {GuardBlocked} when policy does not allow it.
   */
  async text<C extends Content>(
    kind: Exclude<Kind, "tool_call">,
    content: C,
    context: Context & { tool?: Tool; role?: "system" | "user" | "assistant" } = {},
  ): Promise<C> {
    const d = await this.decide({ ...context, kind, content });
    if (denies(d)) throw new GuardBlocked(d);
    return d.decision === "redact" ? redacted(d, d.content as C | undefined) : content;
  }

  /** Has a tool call decided on before it runs. Never throws GuardBlocked or GuardUnavailable: a denied call is told to the model. */
  async toolCall(tool: Tool, context: Context = {}): Promise<Verdict<Record<string, unknown>>> {
    return await this.#verdict({ ...context, kind: "tool_call", tool }, (d) =>
      d.decision === "redact" ? redacted(d, d.arguments) : (tool.arguments ?? {}),
    );
  }

  /** Has a tool's result decided on before the model reads it. Never throws GuardBlocked or GuardUnavailable. */
  async toolResult<C extends Content>(tool: Tool, content: C, context: Context = {}): Promise<Verdict<C>> {
    const { arguments: _, ...ref } = tool;
    return await this.#verdict({ ...context, kind: "tool_result", tool: ref, content }, (d) =>
      d.decision === "redact" ? redacted(d, d.content as C | undefined) : content,
    );
  }

  /**
   * Guards a tool's function: its call is decided on before it runs, and its result
   * before it is returned.
   *
   * @returns a function that throws GuardBlocked or GuardUnavailable when denied.
   */
  tool<A extends Record<string, unknown>, R>(
    name: string,
    run: (args: A) => R | Promise<R>,
    context: Context = {},
  ): (args: A) => Promise<R> {
    return async (args) => {
      const call = await this.toolCall({ name, arguments: args }, context);
      if (!call.allowed) throw call.error;
      const result = await run(call.value as A);
      const plain = typeof result === "string";
      const read = await this.toolResult({ name }, plain ? result : (JSON.stringify(result) ?? ""), context);
      if (!read.allowed) throw read.error;
      if (plain) return read.value as R;
      return read.decision.decision === "redact" ? (JSON.parse(read.value) as R) : result;
    };
  }

  /**
   * Gives a guarded one for what an agent is made of: a client of OpenAI (also Azure's)
   * or Anthropic, or an object of a framework whose module is imported
   * (`import "guardbook/mcp"`). What was given stays as it was.
   */
  wrap<T extends object>(value: T, context: ModelContext = {}): T {
    return wrapClient(value, this.#model(context)) ?? wrapWithLoaded(this, value, context);
  }

  /** As {@link Guard.wrap}, and imports the framework's module when it is needed. */
  async wrapAsync<T extends object>(value: T, context: ModelContext = {}): Promise<T> {
    return wrapClient(value, this.#model(context)) ?? (await wrapWith(this, value, context));
  }

  /**
   * A fetch for any client of a model provider's API that takes one. Requests go
   * through the server; a block is the answer 403, which such clients do not retry, or
   * ends a running stream with GuardBlocked. See {@link Guard.fetchWith}.
   */
  readonly fetch: typeof globalThis.fetch = (input, init) => this.fetchWith()(input, init);

  /**
   * As {@link Guard.fetch}; with `throw`, a block and an absent server reject with GuardBlocked and GuardUnavailable.
   * `baseURL` is the client's, where it is compatible with OpenAI and does not end with `/v1`.
   */
  fetchWith(
    options: { onBlock?: "response" | "throw"; fetch?: typeof globalThis.fetch; baseURL?: string } & ModelContext = {},
  ): typeof globalThis.fetch {
    const { onBlock = "response", fetch, baseURL, ...context } = options;
    // Only what is compatible with OpenAI has addresses that do not say what they are.
    const api = baseURL === undefined ? {} : ({ base: baseURL, provider: "openai" } as const);
    return guardedFetch(this.#model(context), { onBlock, direct: fetch as FetchLike | undefined, ...api });
  }

  /** Whether there is something that the server could not be told yet. */
  get pending(): boolean {
    return this.#recorder.pending;
  }

  /** Tells the server what it could not be told yet; true when nothing is left. */
  async flush(): Promise<boolean> {
    return await this.#recorder.flush();
  }

  /** Flushes, and ends the connections. What could not be told stays on disk for the next process. */
  async close(): Promise<void> {
    await this.#recorder.close();
    this.#server.close();
  }

  #model(context: ModelContext): ModelGuard {
    if (context.toolCalls !== undefined && context.toolCalls !== "asked")
      throw new TypeError(`toolCalls must be "asked", or left out, not ${JSON.stringify(context.toolCalls)}.`);
    return {
      client: this.client,
      block: this.#settings.block,
      budgetMs: this.#settings.budgetMs,
      onUnavailable: { texts: this.#settings.onUnavailable, tools: this.#settings.onUnavailableTools },
      server: this.#server,
      recorder: this.#recorder,
      identity: () => this.identity(context),
      via: context.via,
      toolCalls: context.toolCalls,
      answered: () => this.#answered(),
    };
  }

  async #verdict<T>(interaction: Interaction, value: (d: Decision) => T): Promise<Verdict<T>> {
    try {
      const decision = await this.decide(interaction);
      if (!denies(decision)) return { allowed: true, value: value(decision), decision };
      const error = new GuardBlocked(decision);
      return { allowed: false, message: error.message, error };
    } catch (err) {
      if (err instanceof GuardUnavailable || err instanceof GuardBlocked) {
        return { allowed: false, message: err.message, error: err };
      }
      throw err;
    }
  }

  #prepare(i: Interaction): Ask {
    if (!kinds.includes(i.kind))
      throw new TypeError(`kind must be one of ${kinds.join(", ")}, not ${JSON.stringify(i.kind)}.`);
    if (i.kind === "tool_call" ? !i.tool?.name : i.content === undefined) {
      throw new TypeError(
        i.kind === "tool_call" ? "A tool_call needs tool.name." : `An interaction of kind ${i.kind} needs content.`,
      );
    }
    if (i.kind !== "tool_call" && typeof i.content !== "string" && !Array.isArray(i.content)) {
      throw new TypeError("content must be a string or a list of parts.");
    }
    const via = i.via ?? "typescript";
    if (!/^[a-z0-9._/-]{1,40}$/.test(via)) throw new TypeError("via must be 1 to 40 of a-z, 0-9, and ._/-.");
    const { session, user, parent } = this.identity(i);
    const args = i.kind === "tool_call" ? (i.tool?.arguments ?? {}) : undefined;
    return {
      kind: i.kind,
      via,
      session,
      user,
      parent,
      role: i.role,
      context: i.context === undefined ? undefined : i.context.slice(0, 200_000),
      content: i.content,
      tool: i.tool && { server: i.tool.server, name: i.tool.name, call_id: i.tool.callId, arguments: args },
    };
  }

  /** The server's answer, or why there is none. */
  async #ask(
    path: string,
    body: string,
    asks: readonly { ask: Ask; seq: number }[],
    signal?: AbortSignal,
  ): Promise<object | string> {
    try {
      await this.#server.connect(); // the time that a first start takes is not the decision's
      signal?.throwIfAborted();
      if (!this.#server.breaker.allows()) return "the server did not answer before; it is asked again in a few seconds";
      const { budgetMs } = this.#settings;
      const answer = await (path === one
        ? this.#line.ask(body, budgetMs, signal)
        : this.#server.post(path, body, budgetMs, signal));
      if (answer.status === 200) {
        const said = parse(answer.body, path === one ? undefined : asks.length);
        if (!said) return "the answer is no decision: is another server at this address?";
        this.#answered();
        return said;
      }
      const said = message(answer);
      if (answer.status >= 500) return said;
      for (const { ask, seq } of asks) this.#note("refused", ask, seq, said);
      throw new GuardError(`Guardbook refused the question (${answer.status}): ${said}`);
    } catch (err) {
      if (signal?.aborted) {
        for (const { ask, seq } of asks) this.#note("unanswered", ask, seq, "the caller did not wait for the answer");
        throw signal.reason;
      }
      if (err instanceof GuardError && !err.retryable) throw err;
      return (err as Error).message;
    }
  }

  #answered(): void {
    this.#recorder.back();
    if (this.#adopted) return;
    this.#adopted = true;
    void this.#recorder.adopt();
  }

  #without(ask: Ask, seq: number, reason: string): Decision {
    const tool = ask.kind === "tool_call";
    const open = (tool ? this.#settings.onUnavailableTools : this.#settings.onUnavailable) === "allow";
    this.#recorder.away();
    this.#note(open ? "unguarded" : "refused", ask, seq, reason);
    if (!open) {
      throw new GuardUnavailable(
        `Guardbook could not be asked (${reason}), and ${tool ? "a tool call" : "this"} may not pass without a decision. Try again later.`,
      );
    }
    return { decision: "allow", entry: "", rule: "", severity: "info", message: "", findings: [], unguarded: true };
  }

  #note(event: "unguarded" | "refused" | "unanswered", ask: Ask, seq: number, reason: string): void {
    this.#recorder.note({
      event,
      seq,
      via: ask.via,
      kind: ask.kind,
      session: ask.session,
      ...(ask.tool && { tool: short(ask.tool) }),
      reason,
    });
  }

  #numbered(text: string, seq: number): string {
    return `${text.slice(0, -1)},"client":"${this.client}","client_seq":${seq}}`;
  }

  async #record(body: string): Promise<Answer> {
    if (body !== "") return await this.#server.post("/v1/record", body, 5_000);
    await this.#server.ready(this.#settings.budgetMs);
    return { status: 200, body: "" };
  }
}

interface Ask {
  kind: Kind;
  via: string;
  session: string;
  user: string | undefined;
  parent: string | undefined;
  role: string | undefined;
  context: string | undefined;
  content: Content | undefined;
  tool:
    | {
        server: string | undefined;
        name: string;
        call_id: string | undefined;
        arguments: Record<string, unknown> | undefined;
      }
    | undefined;
}

/** A tool's names as an event keeps them. */
function short(tool: { server: string | undefined; name: string }): { server?: string; name: string } {
  const cut = (name: string) => name.slice(0, 64).toWellFormed(); // at most 256 bytes
  return { ...(tool.server !== undefined && { server: cut(tool.server) }), name: cut(tool.name) };
}

/** As JSON. Half of a surrogate pair is no text, and the server reads strict UTF-8. */
function encode(ask: Ask): string {
  const text = JSON.stringify(ask);
  if (!text.includes("\\ud")) return text;
  return text.replace(/\\(u[dD][89a-fA-F][0-9a-fA-F]{2}|.)/g, (found) => (/^\\u[dD]/.test(found) ? "\\ufffd" : found));
}

/** A framework's own id as it can be sent: as it is where possible, else its hash. */
function name(id: string | undefined): string | undefined {
  if (id === undefined || id === "") return undefined;
  return nameable(id) ? id : `sha256:${createHash("sha256").update(id).digest("hex")}`;
}

/** A decision, or as many as a batch asked for. */
function parse(body: string, many: number | undefined): object | undefined {
  try {
    const o = JSON.parse(body) as { decision?: unknown; decisions?: unknown };
    if (many === undefined) return typeof o.decision === "string" ? o : undefined;
    return Array.isArray(o.decisions) && o.decisions.length === many ? o : undefined;
  } catch {
    return undefined;
  }
}

/** What takes the place of the original, which must not be used. */
function redacted<T>(d: Decision, value: T | undefined): T {
  if (value === undefined) throw new GuardBlocked(d);
  return value;
}

function message(answer: Answer): string {
  try {
    const { error } = JSON.parse(answer.body) as { error?: { message?: unknown } };
    if (typeof error?.message === "string") return error.message;
  } catch {
    // Not from Guardbook: a proxy in between, say.
  }
  return `HTTP status ${answer.status}`;
}
