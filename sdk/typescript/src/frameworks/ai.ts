/**
 * Guardbook for the AI SDK (`ai` 5, 6 and 7).
 *
 * ```ts
 * import { guardModel, guardTools } from "guardbook/ai";
 * await generateText({ model: guardModel(guard, openai("gpt-5-mini")), tools: guardTools(guard, tools), prompt });
 * ```
 *
 * To stream what was judged token by token, let the provider's requests go through the
 * gateway instead: `createOpenAI({ fetch: guard.fetch })`.
 *
 * @module
 */
import { GuardBlocked, GuardUnavailable } from "../errors.js";
import type { Context } from "../interaction.js";
import { registerWrapper } from "../wrappers.js";
import { blockedBy, type Decider, Judge, type Scope, task } from "./inner/judge.js";

export { blockedBy };

const via = "typescript/ai";

/** Whose interactions they are. */
export type Options = Omit<Context, "via" | "signal" | "context">;

/** What the guard needs of a language model: LanguageModelV2, V3 or V4. */
export interface LanguageModel {
  readonly specificationVersion: string;
  // biome-ignore lint/suspicious/noExplicitAny: the types differ between the specification's versions
  doGenerate(options: any): PromiseLike<any>;
  // biome-ignore lint/suspicious/noExplicitAny: the types differ between the specification's versions
  doStream(options: any): PromiseLike<any>;
}

/** A middleware for `wrapLanguageModel`, whichever version it is of. */
export interface Middleware<V extends string = "v2"> {
  readonly specificationVersion: V;
  // biome-ignore lint/suspicious/noExplicitAny: the types differ between the specification's versions
  transformParams(options: any): Promise<any>;
  // biome-ignore lint/suspicious/noExplicitAny: the types differ between the specification's versions
  wrapGenerate(options: any): Promise<any>;
  // biome-ignore lint/suspicious/noExplicitAny: the types differ between the specification's versions
  wrapStream(options: any): Promise<any>;
}

// One for each guard: what a guarded tool gave is known to the guarded model that reads it.
const judges = new WeakMap<Decider, Judge>();

function judgeOf(guard: Decider): Judge {
  let judge = judges.get(guard);
  if (!judge) {
    judge = new Judge(guard, via);
    judges.set(guard, judge);
  }
  return judge;
}

/**
 * A model that judges what it is given and what it gives. An answer is held until it is
 * judged: a text to its end, a tool call to its last argument. A denied input or output
 * throws `GuardBlocked`; in a stream it is the part `error`.
 */
export function guardModel<M extends LanguageModel>(guard: Decider, model: M, options: Options = {}): M {
  const inner = new ModelJudge(judgeOf(guard), options);
  return new Proxy(model, {
    get(target, member) {
      if (member === "doGenerate") {
        return async (params: Params) => {
          const judged = await inner.params(params);
          return inner.generated((await target.doGenerate(judged)) as Generated, judged);
        };
      }
      if (member === "doStream") {
        return async (params: Params) => {
          const judged = await inner.params(params);
          return inner.streamed((await target.doStream(judged)) as Streamed, judged);
        };
      }
      const value: unknown = Reflect.get(target, member, target);
      return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
    },
  });
}

/** {@link guardModel} as a middleware: `wrapLanguageModel({ model, middleware: guardMiddleware(guard) })`. */
export function guardMiddleware<V extends string = "v4">(guard: Decider, options: Options = {}): Middleware<V> {
  const inner = new ModelJudge(judgeOf(guard), options);
  return {
    // No version of the SDK reads it; their types ask for it.
    specificationVersion: "v4" as string as V,
    transformParams: ({ params }: { params: Params }) => inner.params(params),
    wrapGenerate: async ({ doGenerate, params }: { doGenerate: () => PromiseLike<Generated>; params: Params }) =>
      inner.generated(await doGenerate(), params),
    wrapStream: async ({ doStream, params }: { doStream: () => PromiseLike<Streamed>; params: Params }) =>
      inner.streamed(await doStream(), params),
  };
}

/**
 * The same tools, each call of which is judged before it runs, and its result before
 * the model reads it. A denied call is a `tool-error` part, which the model reads, and
 * the agent goes on.
 */
export function guardTools<T extends object>(guard: Decider, tools: T, options: Options = {}): T {
  const judge = judgeOf(guard);
  return Object.fromEntries(
    Object.entries(tools).map(([name, tool]) => [name, guardTool(judge, name, tool as Tool, options)]),
  ) as T;
}

registerWrapper({
  module: "ai",
  matches: (o) => {
    const m = o as Partial<LanguageModel>;
    return typeof m.doGenerate === "function" && typeof m.doStream === "function" && "specificationVersion" in m;
  },
  wrap: (guard, value, context) => guardModel(guard, value as LanguageModel, context),
});

// ---- tools

interface Tool {
  execute?: (input: unknown, options: Execution) => unknown;
  providerOptions?: Record<string, unknown>;
}
interface Execution {
  toolCallId?: string;
  messages?: PromptMessage[];
  abortSignal?: AbortSignal;
}

// The mark by which a guarded model knows that a call will be judged where it runs.
const mark = { guardbook: { asked: true } };

function guardTool(judge: Judge, name: string, tool: Tool, options: Options): Tool {
  const { execute } = tool;
  if (typeof execute !== "function") return tool; // it runs elsewhere: a guarded model judges its calls
  return {
    ...tool,
    providerOptions: { ...tool.providerOptions, ...mark },
    execute: (input, given) => {
      const values = guardedCall(judge, name, execute.bind(tool), input, given ?? {}, options);
      return execute.constructor.name === "AsyncGeneratorFunction" ? values : last(values);
    },
  };
}

/** What a tool gives that is no generator: as a promise, or the SDK shows it twice. */
async function last(values: AsyncIterable<unknown>): Promise<unknown> {
  let value: unknown;
  for await (value of values);
  return value;
}

/** Runs a tool. A generator's values but the last one are for people, and are judged as well. */
async function* guardedCall(
  judge: Judge,
  name: string,
  execute: NonNullable<Tool["execute"]>,
  input: unknown,
  given: Execution,
  options: Options,
): AsyncGenerator<unknown> {
  const scope: Scope = { ...options, context: taskOf(given.messages ?? []), signal: given.abortSignal };
  const tool = { name, callId: given.toolCallId };
  const deny = (why: string, cause?: unknown): never => {
    judge.remember("tool_result", why, scope, tool);
    throw new ToolDenied(why, { cause });
  };
  const verdict = await judge.call(tool, input, scope);
  if (verdict.denied !== undefined) return deny(verdict.denied);
  const wrapped = typeof input !== "object" || input === null; // a tool that takes a bare text
  const args = wrapped && verdict.args.input !== undefined ? verdict.args.input : verdict.args;
  const read = async (value: unknown) => {
    const judged = await judge.resultValue(tool, value, scope);
    if (judged.denied !== undefined) return deny(judged.denied);
    judge.remember("tool_result", judged.value, scope, tool);
    return judged.value;
  };
  let running: unknown;
  try {
    running = await execute(args, given);
    if (isIterable(running)) {
      for await (const value of running) yield await read(value);
      return;
    }
  } catch (error) {
    if (error instanceof ToolDenied || given.abortSignal?.aborted || !(error instanceof Error)) throw error;
    // The model reads an error's words as well.
    const judged = await judge.result(tool, [error.message], scope);
    if (judged.denied === undefined && judged.texts[0] === error.message) throw error;
    deny(judged.denied ?? judged.texts?.[0] ?? "", error);
  }
  yield await read(running);
}

/** What the model is told of a denied call. */
class ToolDenied extends Error {
  override readonly name = "ToolDenied";
}

function isIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

// ---- models

type Part = { type: string } & Record<string, unknown>;
interface PromptMessage {
  role: string;
  content: string | Part[];
}
interface Params {
  prompt: PromptMessage[];
  tools?: ({ type: string; name: string; description?: string; providerOptions?: Record<string, unknown> } & object)[];
  abortSignal?: AbortSignal;
  includeRawChunks?: boolean;
}
interface Generated {
  content: Part[];
  response?: Record<string, unknown>;
  providerMetadata?: unknown;
}
interface Streamed {
  stream: ReadableStream<Part>;
}

class ModelJudge {
  constructor(
    private readonly judge: Judge,
    private readonly options: Options,
  ) {}

  private scope(params: Params): Scope {
    return { ...this.options, context: taskOf(params.prompt), signal: params.abortSignal };
  }

  /** Judges what the model is about to read. */
  async params(params: Params): Promise<Params> {
    const scope = this.scope(params);
    const newest = params.prompt.length - 1;
    const [prompt, tools] = await Promise.all([
      Promise.all(params.prompt.map((m, i) => this.message(m, scope, i === newest))),
      Promise.all((params.tools ?? []).map((t) => this.definition(t, scope))),
    ]);
    const kept = params.tools?.filter((_, i) => tools[i]);
    return { ...params, prompt, ...(kept && { tools: kept }) };
  }

  private async definition(tool: NonNullable<Params["tools"]>[number], scope: Scope): Promise<boolean> {
    if (tool.type !== "function") return true; // the provider's own: policy judges it at the gateway
    const { providerOptions, ...definition } = tool;
    return this.judge.definition({ name: tool.name }, definition, scope);
  }

  private async message(m: PromptMessage, scope: Scope, newest: boolean): Promise<PromptMessage> {
    if (typeof m.content === "string") {
      const role = m.role === "system" ? "system" : "user";
      const [text = ""] = await this.judge.once("input", [m.content], scope, { role }, newest);
      return text === m.content ? m : { ...m, content: text };
    }
    const said = m.role === "assistant";
    const content = await Promise.all(
      m.content.map(async (part) => {
        if (part.type === "text" && typeof part.text === "string") {
          const [text] = await this.judge.once(
            said ? "output" : "input",
            [part.text],
            scope,
            { role: said ? "assistant" : "user" },
            newest && !said,
          );
          return text === part.text ? part : { ...part, text };
        }
        if (part.type !== "tool-result") return part;
        const output = part.output as { type: string; value?: unknown } | undefined;
        if (output?.value === undefined) return part;
        const tool = { name: String(part.toolName ?? "tool"), callId: String(part.toolCallId ?? "") };
        const value = await this.judge.valueOnce("tool_result", output.value, scope, { tool });
        return value === output.value ? part : { ...part, output: { ...output, value } };
      }),
    );
    return content.every((p, i) => p === m.content[i]) ? m : { ...m, content };
  }

  /** Judges a whole answer. */
  async generated(result: Generated, params: Params): Promise<Generated> {
    const scope = this.scope(params);
    const content = await Promise.all(result.content.map((part) => this.part(part, params, scope)));
    if (content.every((p, i) => p === result.content[i])) return result;
    // The provider's body, and the likelihood of each word, would tell what was redacted.
    const { body, ...response } = result.response ?? {};
    return {
      ...result,
      content,
      ...(result.response && { response }),
      ...(result.providerMetadata !== undefined && { providerMetadata: unlikely(result.providerMetadata) }),
    };
  }

  private async part(part: Part, params: Params, scope: Scope): Promise<Part> {
    switch (part.type) {
      case "text": {
        const [text] = await this.judge.texts("output", [String(part.text)], scope, { role: "assistant" });
        return text === part.text ? part : { ...part, text };
      }
      case "reasoning":
        // Signed by the provider: it passes as it is, or not at all.
        await this.judge.texts("output", [String(part.text)], scope, { role: "assistant" });
        return part;
      case "tool-call":
        await this.call(part, params, scope);
        return part;
      case "tool-result": {
        // The provider ran this tool; its result is in the answer.
        const tool = { name: String(part.toolName), callId: String(part.toolCallId) };
        const result = await this.judge.value("tool_result", part.result, scope, { tool });
        return result === part.result ? part : { ...part, result };
      }
      default:
        return part;
    }
  }

  /** Judges a call that nothing judges where it runs. */
  private async call(part: Part, params: Params, scope: Scope): Promise<void> {
    const name = String(part.toolName);
    const definition = params.tools?.find((t) => t.name === name);
    if (definition?.providerOptions?.guardbook && part.providerExecuted !== true) return;
    let args: unknown = part.input;
    try {
      args = typeof part.input === "string" ? JSON.parse(part.input || "{}") : part.input;
    } catch {
      // Not JSON: judged as the text that it is.
    }
    const verdict = await this.judge.call({ name, callId: String(part.toolCallId) }, args, scope);
    if (verdict.denied !== undefined) {
      throw new GuardBlocked({ decision: "block", entry: "", rule: "", severity: "medium", message: verdict.denied });
    }
    if (verdict.args !== args && typeof args === "object") part.input = JSON.stringify(verdict.args);
  }

  /** Holds a stream's parts until they are judged. */
  streamed(result: Streamed, params: Params): Streamed {
    const scope = this.scope(params);
    const hold = new Hold();
    const source = result.stream.getReader();
    const judgeHeld = async (id: string, type: "text" | "reasoning") => {
      const before = hold.text(id, type);
      const judged = await this.part({ type, text: before }, params, scope);
      if (judged.text !== before) hold.replace(id, String(judged.text));
    };
    const take = async (part: Part): Promise<void> => {
      const id = String(part.id ?? part.toolCallId ?? "");
      switch (part.type) {
        case "raw":
          return; // the same words as the provider sent them, before they are judged
        case "text-end":
          await judgeHeld(id, "text");
          return hold.end(part, id);
        case "reasoning-end":
          await judgeHeld(id, "reasoning");
          return hold.end(part, id);
        case "text-start":
        case "reasoning-start":
        case "tool-input-start":
          return hold.start(part, id);
        case "tool-call":
        case "tool-result":
          return hold.end(await this.part(part, params, scope), id);
        case "finish":
          for (const [open, kind] of hold.open) if (kind !== "tool") await judgeHeld(open, kind);
          hold.open.clear();
          return hold.add(hold.redacted ? { ...part, providerMetadata: unlikely(part.providerMetadata) } : part);
        default:
          return hold.add(part);
      }
    };
    const stream = new ReadableStream<Part>({
      pull: async (controller) => {
        try {
          for (;;) {
            const { done, value } = await source.read();
            if (done) {
              for (const [open, kind] of hold.open) if (kind !== "tool") await judgeHeld(open, kind);
              hold.open.clear();
            } else await take(value);
            const released = hold.release();
            for (const part of released) controller.enqueue(part);
            if (done) return controller.close();
            if (released.length > 0) return;
          }
        } catch (error) {
          void source.cancel(error).catch(() => undefined); // the provider need not go on
          if (!(error instanceof GuardBlocked) && !(error instanceof GuardUnavailable)) return controller.error(error);
          controller.enqueue({ type: "error", error });
          controller.close();
        }
      },
      cancel: (reason) => source.cancel(reason),
    });
    return { ...result, stream };
  }
}

/** The parts of a stream that wait, in the order in which they came. */
class Hold {
  readonly open = new Map<string, "text" | "reasoning" | "tool">();
  redacted = false;
  #parts: Part[] = [];

  start(part: Part, id: string): void {
    this.open.set(id, part.type === "text-start" ? "text" : part.type === "reasoning-start" ? "reasoning" : "tool");
    this.#parts.push(part);
  }
  add(part: Part): void {
    this.#parts.push(part);
  }
  end(part: Part, id: string): void {
    this.#parts.push(part);
    this.open.delete(id);
  }
  text(id: string, type: "text" | "reasoning"): string {
    return this.#parts
      .filter((p) => p.type === `${type}-delta` && p.id === id)
      .map((p) => String(p.delta))
      .join("");
  }
  replace(id: string, text: string): void {
    this.redacted = true;
    const of = (p: Part) => p.type === "text-delta" && p.id === id;
    const first = this.#parts.find(of);
    this.#parts = this.#parts.flatMap((p) => (p === first ? [{ ...p, delta: text }] : of(p) ? [] : [p]));
  }
  release(): Part[] {
    if (this.open.size > 0) return [];
    const out = this.#parts;
    this.#parts = [];
    return out;
  }
}

/** Metadata without the likelihood of each word, which is the text a second time. */
function unlikely(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unlikely);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([k]) => k !== "logprobs")
      .map(([k, v]) => [k, unlikely(v)]),
  );
}

/** The system prompt and the newest request. */
function taskOf(messages: readonly PromptMessage[]): string | undefined {
  const text = (m: PromptMessage | undefined): string | undefined =>
    m &&
    (typeof m.content === "string"
      ? m.content
      : m.content.flatMap((p) => (typeof p.text === "string" ? [p.text] : [])).join("\n"));
  return task(
    text(messages.find((m) => m.role === "system")),
    text([...messages].reverse().find((m) => m.role === "user")),
  );
}
