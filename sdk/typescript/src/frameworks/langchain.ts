/**
 * Guardbook for LangChain.js 1.x and LangGraph.
 *
 * ```ts
 * import { guardMiddleware } from "guardbook/langchain";
 * const agent = createAgent({ model, tools, middleware: [guardMiddleware(guard)] });
 * ```
 *
 * Put it last, so that it is the innermost: it then judges what the model is really sent.
 *
 * @module
 */
import { RunnableBinding } from "@langchain/core/runnables";
import { AsyncLocalStorageProviderSingleton } from "@langchain/core/singletons";
import { AIMessage, createMiddleware, ToolMessage } from "langchain";
import { GuardBlocked } from "../errors.js";
import type { Guard, ModelContext } from "../guard.js";
import { registerWrapper } from "../wrappers.js";
import { blockedBy, type Decider, Judge, type Scope, task } from "./inner/judge.js";

export { blockedBy };

const via = "typescript/langchain";

/** How {@link guardMiddleware} works. */
export interface MiddlewareOptions {
  /** The conversation. Default: the guard's, then the run's `thread_id`. */
  session?: string;
  /** Whom the agent works for. */
  user?: string;
  /**
   * Who judges what goes to the model and comes from it.
   * `here` (default): this middleware. An answer is held until it is judged, and is not
   * streamed token by token.
   * `gateway`: the model's own client goes through the gateway, which streams what it
   * has judged: `guardModel(guard, model, { toolCalls: "asked" })`.
   */
  models?: "here" | "gateway";
  /**
   * What becomes of an error in a tool. `message` (default): the model reads it, as in
   * an agent without middleware. `throw`: a retrying middleware further out gets it.
   */
  toolErrors?: "message" | "throw";
}

/** A middleware for `createAgent`, whichever 1.x it is of. */
export interface GuardMiddleware {
  readonly "~middlewareTypes"?: {
    Schema: undefined;
    ContextSchema: undefined;
    // biome-ignore lint/suspicious/noExplicitAny: LangChain's own default for it
    FullContext: any;
    Tools: readonly [];
    StreamTransformers: readonly [];
  };
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: the request's type differs between LangChain's versions
  wrapModelCall: (request: any, handler: any) => Promise<any>;
  // biome-ignore lint/suspicious/noExplicitAny: the request's type differs between LangChain's versions
  wrapToolCall: (request: any, handler: any) => Promise<any>;
}

// What is used of LangChain's objects.
interface Message {
  content: string | Block[];
  name?: string;
  id?: string;
  tool_call_id?: string;
  status?: string;
  artifact?: unknown;
  tool_calls?: ToolCall[];
  additional_kwargs?: Record<string, unknown>;
  response_metadata?: Record<string, unknown>;
  lc_kwargs?: Record<string, unknown>;
  getType?(): string;
  _getType?(): string;
}
interface Block {
  type?: string;
  text?: unknown;
  [member: string]: unknown;
}
interface ToolCall {
  id?: string;
  name: string;
  args: unknown;
}
interface Runtime {
  configurable?: { thread_id?: unknown };
  signal?: AbortSignal;
}
interface ToolRequest {
  toolCall: ToolCall;
  tool?: unknown;
  state?: { messages?: Message[] };
  runtime?: Runtime;
}
interface Model {
  tags?: string[];
  profile?: unknown;
  invoke?: unknown;
}
interface ModelRequest {
  model: Model;
  messages: Message[];
  systemPrompt?: string;
  systemMessage?: Message;
  tools?: { name?: string; description?: string; schema?: unknown }[];
  responseFormat?: unknown;
  runtime?: Runtime;
}
interface Structured {
  structuredResponse: unknown;
  messages: Message[];
}
type ModelAnswer = Message | Structured | object;

/**
 * A middleware that judges what the agent's model is given and gives, every tool call
 * before it runs and every result before the model reads it.
 *
 * A denied tool call or result comes back to the model as a `ToolMessage` of status
 * `error`, and the agent goes on. A denied input or output throws `GuardBlocked`; newer
 * LangChain wraps it in a `MiddlewareError`, out of which {@link blockedBy} takes it.
 */
export function guardMiddleware(guard: Decider, options: MiddlewareOptions = {}): GuardMiddleware {
  const judge = new Judge(guard, via);
  const hooks = new Hooks(judge, options);
  return createMiddleware({
    name: "Guardbook",
    wrapToolCall: (request: ToolRequest, handler: (r: ToolRequest) => Promise<unknown>) => hooks.tool(request, handler),
    wrapModelCall: (request: ModelRequest, handler: (r: ModelRequest) => Promise<ModelAnswer>) =>
      options.models === "gateway" ? hooks.elsewhere(request, handler) : hooks.model(request, handler),
  }) as GuardMiddleware;
}

/**
 * The same tools, judged wherever they run: for a graph of LangGraph's with a `ToolNode`,
 * which has no hook of its own. An agent with {@link guardMiddleware} does not need it.
 */
export function guardTools<T extends object>(
  guard: Decider,
  tools: readonly T[],
  options: MiddlewareOptions = {},
): T[] {
  const hooks = new Hooks(new Judge(guard, via), options);
  return tools.map((tool) => guardedTool(hooks, tool));
}

/**
 * The same model, whose requests go through the gateway. For `ChatOpenAI` and
 * `ChatAnthropic`; to others that take a fetch, give `guard.fetch`.
 */
export function guardModel<M extends object>(guard: Gateway, model: M, context: ModelContext = {}): M {
  const m = model as M & { lc_kwargs?: Record<string, unknown>; _llmType?: () => string };
  const type = m._llmType?.();
  const member = type === "openai" ? "configuration" : type === "anthropic" ? "clientOptions" : undefined;
  if (!member || !m.lc_kwargs) {
    throw new TypeError(
      "guardbook/langchain takes ChatOpenAI and ChatAnthropic. To another model that takes a fetch, give guard.fetch.",
    );
  }
  const Model = model.constructor as new (fields: object) => M;
  const given = (m.lc_kwargs[member] ?? {}) as { fetch?: typeof globalThis.fetch };
  const fetch = guard.fetchWith({ via, ...context, ...(given.fetch && { fetch: given.fetch }) });
  return new Model({ ...m.lc_kwargs, [member]: { ...given, fetch } });
}

/** What {@link guardModel} needs of a `Guard`. */
export type Gateway = Pick<Guard, "fetchWith">;

registerWrapper({
  module: "langchain",
  matches: (o) => "lc_namespace" in o && typeof (o as { invoke?: unknown }).invoke === "function",
  wrap: (guard, value, context) => {
    if (typeof (value as { _llmType?: unknown })._llmType === "function") return guardModel(guard, value, context);
    const { session, user } = context;
    return guardedTool(new Hooks(new Judge(guard, via), { ...(session && { session }), ...(user && { user }) }), value);
  },
});

/** A tool whose calls are judged; for one that is asked without a call's id, a denial is an error. */
function guardedTool<T extends object>(hooks: Hooks, tool: T): T {
  const target = tool as T & { name: string; invoke: (input: unknown, config?: ToolConfig) => Promise<unknown> };
  return new Proxy(tool, {
    get(_, member) {
      if (member === "invoke") return invoke;
      const value: unknown = Reflect.get(tool, member, tool);
      return typeof value === "function" && member !== "constructor"
        ? (value as (...a: unknown[]) => unknown).bind(tool)
        : value;
    },
  });
  async function invoke(input: unknown, config?: ToolConfig): Promise<unknown> {
    const call = input as Partial<ToolCall> & { type?: string };
    const isCall = typeof input === "object" && input !== null && call.type === "tool_call";
    const toolCall: ToolCall = isCall
      ? { ...(input as ToolCall), name: call.name ?? target.name }
      : { name: target.name, args: input };
    const runtime: Runtime = {
      ...(config?.configurable && { configurable: config.configurable }),
      ...(config?.signal && { signal: config.signal }),
    };
    const state = config?.state;
    const messages = Array.isArray(state)
      ? (state as Message[])
      : (state as { messages?: Message[] } | undefined)?.messages;
    const result = await hooks.tool(
      { toolCall, runtime, state: { messages: messages ?? [] } },
      ({ toolCall: { args } }) =>
        target.invoke(
          isCall
            ? { ...(input as object), args }
            : typeof input === "string"
              ? ((args as { input?: unknown }).input ?? args)
              : args,
          config,
        ),
    );
    if (isCall || !isMessage(result) || result.status !== "error") return result;
    throw new Error(readable(result.content).join("\n"));
  }
}

interface ToolConfig extends Runtime {
  state?: unknown;
}

class Hooks {
  constructor(
    private readonly judge: Judge,
    private readonly options: MiddlewareOptions,
  ) {}

  private scope(runtime: Runtime | undefined, system: string | undefined, messages: readonly Message[]): Scope {
    // The runtime of the oldest versions does not say it.
    const { configurable } = runtime?.configurable
      ? runtime
      : (AsyncLocalStorageProviderSingleton.getRunnableConfig() ?? {});
    const thread = configurable?.thread_id;
    return {
      session: this.options.session,
      thread: typeof thread === "string" ? thread : undefined,
      user: this.options.user,
      context: task(system, lastRequest(messages)),
      signal: runtime?.signal,
    };
  }

  // ---- tools

  async tool(request: ToolRequest, handler: (r: ToolRequest) => Promise<unknown>): Promise<unknown> {
    const { toolCall } = request;
    const messages = request.state?.messages ?? [];
    const scope = this.scope(request.runtime, systemOf(messages), messages);
    const tool = { name: toolCall.name, callId: toolCall.id };
    const verdict = await this.judge.call(tool, toolCall.args, scope);
    if (verdict.denied !== undefined) return this.told(toolCall, verdict.denied, scope);

    let result: unknown;
    try {
      result = await handler({ ...request, toolCall: { ...toolCall, args: verdict.args } });
    } catch (error) {
      // With any wrapToolCall, an error in a tool ends the run, where without one the
      // model reads it. What goes on: interrupts, an ended run, arguments that do not
      // fit the schema (LangChain tells the model itself).
      if (this.options.toolErrors === "throw" || notOurs(error) || scope.signal?.aborted) throw error;
      const judged = await this.judge.result(tool, [`${error}\n Please fix your mistakes.`], scope);
      return this.told(toolCall, judged.denied ?? judged.texts?.[0] ?? "", scope);
    }
    return this.result(result, toolCall, scope);
  }

  /** What the model is told instead of a result; it need not be judged when it is read. */
  private told(toolCall: ToolCall, why: string, scope: Scope): Message {
    this.judge.remember("tool_result", [why], scope, { name: toolCall.name });
    return toolMessage(toolCall, why, "error");
  }

  /** Judges what a tool gave: a message, or a Command that carries messages. */
  private async result(result: unknown, toolCall: ToolCall, scope: Scope): Promise<unknown> {
    if (isMessage(result)) return this.resultMessage(result, toolCall, scope);
    const update = (result as { update?: unknown } | undefined)?.update;
    if (update === undefined) {
      const judged = await this.judge.resultValue({ name: toolCall.name, callId: toolCall.id }, result, scope);
      return judged.denied !== undefined ? this.told(toolCall, judged.denied, scope) : judged.value;
    }
    if (Array.isArray(update)) {
      for (const [i, entry] of update.entries()) {
        if (isMessage(entry)) update[i] = await this.resultMessage(entry, toolCall, scope);
        else if (Array.isArray(entry)) entry[1] = await this.updated(entry[1], toolCall, scope);
      }
    } else if (typeof update === "object" && update !== null) {
      const members = update as Record<string, unknown>;
      for (const [key, value] of Object.entries(members)) members[key] = await this.updated(value, toolCall, scope);
    }
    return result;
  }

  /** Judges a value that a tool writes into the state. */
  private async updated(value: unknown, toolCall: ToolCall, scope: Scope): Promise<unknown> {
    if (isMessage(value)) return this.resultMessage(value, toolCall, scope);
    if (Array.isArray(value) && value.some(isMessage)) {
      return Promise.all(value.map((v) => (isMessage(v) ? this.resultMessage(v, toolCall, scope) : v)));
    }
    const judged = await this.judge.resultValue({ name: toolCall.name, callId: toolCall.id }, value, scope);
    return judged.denied ?? judged.value;
  }

  private async resultMessage(message: Message, toolCall: ToolCall, scope: Scope): Promise<Message> {
    const tool = { name: toolCall.name, callId: toolCall.id };
    const found = readable(message.content);
    const [content, artifact] = await Promise.all([
      this.judge.result(tool, found, scope),
      this.judge.resultValue(tool, message.artifact, scope),
    ]);
    const denied = content.denied ?? artifact.denied;
    if (denied !== undefined) {
      return kind(message) === "tool" ? this.told(toolCall, denied, scope) : rewrite(message, found, [denied]);
    }
    const texts = content.texts ?? [];
    const out = changed(found, texts) ? rewrite(message, found, texts) : message;
    out.artifact = artifact.denied === undefined ? artifact.value : undefined;
    this.judge.remember("tool_result", texts, scope, { name: toolCall.name });
    return out;
  }

  // ---- models

  /** A model that the gateway judges: its client's error for a block is made Guardbook's own. */
  async elsewhere(request: ModelRequest, handler: (r: ModelRequest) => Promise<ModelAnswer>): Promise<ModelAnswer> {
    try {
      return await handler(request);
    } catch (error) {
      throw blockedBy(error) ?? error;
    }
  }

  async model(request: ModelRequest, handler: (r: ModelRequest) => Promise<ModelAnswer>): Promise<ModelAnswer> {
    const system =
      request.systemPrompt ?? (request.systemMessage && readable(request.systemMessage.content).join("\n"));
    const scope = this.scope(request.runtime, system || systemOf(request.messages), request.messages);
    const [messages, tools] = await Promise.all([
      this.inputs(request.messages, scope),
      this.tools(request.tools, scope),
      system ? this.judge.once("input", [system], scope, { role: "system" }) : undefined,
    ]);
    const answer = await handler({
      ...request,
      messages,
      ...(tools && { tools }),
      // Token by token, a stream of the agent's messages would carry the answer past us.
      model: held(request.model),
    });
    // A call that fills a form of structured output runs nowhere: it is output.
    const known = request.responseFormat ? undefined : new Set((request.tools ?? []).map((t) => t.name));
    return this.answer(answer, known, scope);
  }

  /** Judges what the model is about to read and has not been judged in this session. */
  private inputs(messages: readonly Message[], scope: Scope): Promise<Message[]> {
    // The newest message is judged each time: a killed agent stops here even when it
    // says what it said before.
    return Promise.all(messages.map((m, i) => this.input(m, scope, i === messages.length - 1)));
  }

  private async input(message: Message, scope: Scope, newest: boolean): Promise<Message> {
    const texts = readable(message.content);
    const type = kind(message);
    // What the model said was judged when it said it; a history from elsewhere is its input.
    if (type === "tool") {
      const tool = { name: message.name ?? "tool" };
      const passed = await this.judge.once("tool_result", texts, scope, { tool });
      return changed(texts, passed) ? rewrite(message, texts, passed) : message;
    }
    if (type === "ai") {
      const passed = await this.judge.once("output", texts, scope, { role: "assistant" });
      return changed(texts, passed) ? rewrite(message, texts, passed) : message;
    }
    const role = type === "system" ? "system" : "user";
    const passed = await this.judge.once("input", texts, scope, { role }, newest);
    return changed(texts, passed) ? rewrite(message, texts, passed) : message;
  }

  /** Leaves out tools whose definition is denied. */
  private async tools(tools: ModelRequest["tools"], scope: Scope): Promise<ModelRequest["tools"]> {
    if (!tools) return undefined;
    const passes = await Promise.all(
      tools.map(async (t) => {
        if (typeof t.name !== "string" || typeof t.description !== "string") return true; // hosted: judged by policy at the gateway
        return this.judge.definition({ name: t.name }, { name: t.name, description: t.description }, scope);
      }),
    );
    return passes.every(Boolean) ? tools : tools.filter((_, i) => passes[i]);
  }

  private async answer(
    answer: ModelAnswer,
    known: ReadonlySet<string | undefined> | undefined,
    scope: Scope,
  ): Promise<ModelAnswer> {
    if (isMessage(answer)) return this.output(answer, known, scope);
    if (!("structuredResponse" in answer) || !("messages" in answer)) return answer; // a Command
    const structured = answer as Structured;
    const before = structured.structuredResponse;
    const after = await this.judge.value("output", before, scope, { role: "assistant" });
    // The same object stands in the call that carried it, and in a text about it.
    const pairs = differences(before, after);
    const messages = structured.messages.map((m) => (pairs.length > 0 ? substitute(m, pairs) : m));
    const judged = await Promise.all(messages.map((m) => (kind(m) === "ai" ? this.output(m, undefined, scope) : m)));
    return { ...structured, structuredResponse: after, messages: judged };
  }

  /** Judges an answer; `known` are the tools whose calls are judged where they run. */
  private async output(
    message: Message,
    known: ReadonlySet<string | undefined> | undefined,
    scope: Scope,
  ): Promise<Message> {
    const texts = readable(message.content);
    const passed = await this.judge.once("output", texts, scope, { role: "assistant" }, true);
    const out = changed(texts, passed) ? rewrite(message, texts, passed) : message;
    if (changed(texts, passed)) this.judge.remember("output", passed, scope);
    for (const call of known ? (out.tool_calls ?? []) : []) {
      if (known?.has(call.name)) continue;
      const d = await this.judge.call({ name: call.name, callId: call.id }, call.args, scope);
      if (d.denied !== undefined) {
        throw new GuardBlocked({ decision: "block", entry: "", rule: "", severity: "medium", message: d.denied });
      }
      call.args = d.args;
    }
    return out;
  }
}

// ---- messages

function isMessage(value: unknown): value is Message {
  const m = value as Message | undefined;
  return (
    typeof m === "object" &&
    m !== null &&
    "content" in m &&
    (typeof m.getType === "function" || typeof m._getType === "function")
  );
}

function kind(m: Message): string {
  return m.getType?.() ?? m._getType?.() ?? "";
}

/** The texts of a message: its text, or the text of each of its blocks. Thinking is not touched. */
function readable(content: Message["content"]): string[] {
  if (typeof content === "string") return content === "" ? [] : [content];
  if (!Array.isArray(content)) return [];
  return content.flatMap((b) => (typeof b === "string" ? [b] : typeof b?.text === "string" ? [b.text] : []));
}

/** A message of the same kind with other texts. */
function rewrite(message: Message, before: readonly string[], after: readonly string[]): Message {
  let i = 0;
  const content =
    typeof message.content === "string"
      ? (after[0] ?? "")
      : message.content.map((b) =>
          typeof b === "string"
            ? (after[i++] ?? "")
            : typeof b?.text === "string"
              ? { ...b, text: after[i++] ?? "" }
              : b,
        );
  const Kind = (kind(message) === "ai" ? AIMessage : message.constructor) as new (fields: object) => Message;
  const fields: Record<string, unknown> = { ...message.lc_kwargs, ...own(message), content };
  // The text stands a second time in what the provider sent along.
  for (const copy of ["additional_kwargs", "response_metadata"]) {
    before.forEach((text, n) => {
      if (text) fields[copy] = replaceIn(fields[copy], text, after[n] ?? "");
    });
  }
  return new Kind(fields);
}

const carried = [
  "id", "name", "tool_call_id", "status", "artifact", "tool_calls", "invalid_tool_calls", "usage_metadata",
  "additional_kwargs", "response_metadata",
] as const; // biome-ignore format: a list

function own(message: Message): Record<string, unknown> {
  const m = message as unknown as Record<string, unknown>;
  return Object.fromEntries(carried.filter((k) => m[k] !== undefined).map((k) => [k, m[k]]));
}

/** The texts that differ between a value and what it was redacted to. */
function differences(before: unknown, after: unknown): [string, string][] {
  if (before === after) return [];
  if (typeof before !== "object" || before === null) return [[String(before), String(after)]];
  return Object.entries(before).flatMap(([k, v]) => differences(v, (after as Record<string, unknown>)[k]));
}

/** A message with other texts wherever they stand in it, also within JSON. */
function substitute(message: Message, pairs: readonly [string, string][]): Message {
  let fields: unknown = { ...message.lc_kwargs, ...own(message), content: message.content };
  for (const [before, after] of pairs) {
    const inner = (text: string) => JSON.stringify(text).slice(1, -1);
    fields = replaceIn(replaceIn(fields, before, after), inner(before), inner(after));
  }
  const Kind = message.constructor as new (fields: object) => Message;
  return new Kind(fields as object);
}

/** The same value, with a text in place of another wherever it stands. */
function replaceIn(value: unknown, before: string, after: string): unknown {
  if (typeof value === "string") return value.includes(before) ? value.replaceAll(before, after) : value;
  if (Array.isArray(value)) return value.map((v) => replaceIn(v, before, after));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, replaceIn(v, before, after)]));
}

function changed(before: readonly string[], after: readonly string[]): boolean {
  return before.some((t, i) => t !== after[i]);
}

function lastRequest(messages: readonly Message[]): string | undefined {
  for (let i = messages.length - 1; i >= 0; i--) {
    const m = messages[i];
    if (m && kind(m) === "human") return readable(m.content).join("\n");
  }
  return undefined;
}

function systemOf(messages: readonly Message[]): string | undefined {
  const m = messages[0];
  return m && kind(m) === "system" ? readable(m.content).join("\n") : undefined;
}

function toolMessage(call: ToolCall, content: string, status: "error" | "success"): Message {
  return new ToolMessage({ content, tool_call_id: call.id ?? "", name: call.name, status }) as unknown as Message;
}

/** Errors that LangChain or LangGraph act on themselves. */
function notOurs(error: unknown): boolean {
  const e = error as { is_bubble_up?: boolean; name?: string; cause?: unknown } | undefined;
  return (
    e?.is_bubble_up === true ||
    e?.name === "ToolInvocationError" ||
    e?.name === "AbortError" ||
    (e?.cause !== undefined && notOurs(e.cause))
  );
}

// LangGraph sends no tokens of a model that carries one of these tags; the message as
// the node returns it is sent instead.
const silent = ["nostream", "langsmith:nostream"];

/** The same model with its tokens kept out of the agent's stream of messages. */
function held(model: Model): Model {
  if (typeof model.invoke !== "function") return model;
  // Not model.withConfig: ChatOpenAI's forgets the tags.
  const bound = new RunnableBinding({ bound: model, config: { tags: [...(model.tags ?? []), ...silent] }, kwargs: {} });
  // A binding hides what createAgent reads to choose between structured outputs.
  if ("profile" in model) {
    Object.defineProperty(bound, "profile", { get: () => model.profile });
    Object.defineProperty(bound, "_streamResponseChunks", { value: undefined });
  }
  return bound as unknown as Model;
}
