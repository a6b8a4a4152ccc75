/**
 * Guardbook for the OpenAI Agents SDK (`@openai/agents` 0.3.9 and newer).
 *
 * ```ts
 * import { guardAgent } from "guardbook/openai-agents";
 * const result = await run(guardAgent(guard, agent), "When is my next appointment?");
 * ```
 *
 * It covers the agent's tools, those of its MCP servers, agents used as tools, and the
 * agents that it may hand off to. To judge the model's answers before they are streamed
 * as well, let its client go through the gateway:
 * `setDefaultOpenAIClient(guard.wrap(new OpenAI()))`.
 *
 * @module
 */
import { GuardBlocked, GuardUnavailable } from "../errors.js";
import type { Context } from "../interaction.js";
import { registerWrapper } from "../wrappers.js";
import { blockedBy, type Decider, Judge, type Scope, task } from "./inner/judge.js";

export { blockedBy };

const via = "typescript/openai-agents";

/** How {@link guardAgent} works. */
export interface AgentOptions extends Omit<Context, "via" | "signal" | "context"> {
  /**
   * Who judges the agent's input and output. `here` (default): its model, when that is
   * an object (see {@link guardModel}); a model that is only named is beyond reach, so
   * guardrails judge, which can refuse but not redact, and see a streamed answer when it
   * has been seen. `gateway`: the model's client, wrapped by `guard.wrap`.
   */
  models?: "here" | "gateway";
}

/** What the guard needs of an agent. */
export interface Agent {
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: the SDK's own parameter types
  clone(config: any): any;
  instructions: unknown;
  tools: unknown[];
  handoffs: unknown[];
  mcpServers: unknown[];
  inputGuardrails: unknown[];
  outputGuardrails: unknown[];
}

/** An input guardrail, for an agent or a Runner. */
export interface InputGuardrail {
  name: string;
  runInParallel: boolean;
  // biome-ignore lint/suspicious/noExplicitAny: the SDK's own parameter types
  execute(args: any): Promise<{ tripwireTriggered: boolean; outputInfo: any }>;
}

/** An output guardrail, for an agent or a Runner. */
export interface OutputGuardrail {
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: the SDK's own parameter types
  execute(args: any): Promise<{ tripwireTriggered: boolean; outputInfo: any }>;
}

/**
 * An agent whose input and output, tool calls and results, MCP servers and handoffs are
 * judged. The given one stays as it is.
 *
 * A denied call or result is the tool's output, which the model reads, and the agent
 * goes on. A denied input or output ends the run with the SDK's own tripwire error, out
 * of which {@link blockedBy} takes the `GuardBlocked`.
 */
export function guardAgent<A extends Agent>(guard: Decider, agent: A, options: AgentOptions = {}): A {
  return new Walk(guard, options).agent(agent) as A;
}

/**
 * A model that judges what it is given and what it gives. An answer is held until it is
 * judged, also when it is streamed. A denied input or output throws `GuardBlocked`.
 * {@link guardAgent} does this to an agent's model when that is an object; for models
 * that are named, give the Runner a provider whose `getModel` does it.
 */
export function guardModel<M extends Model>(guard: Decider, model: M, options: AgentOptions = {}): M {
  const judge = new Judge(guard, via);
  return new Proxy(model, {
    get(target, member) {
      if (member === "getResponse") {
        return async (request: ModelRequest) => {
          const scope = requestScope(options, request);
          const given = await modelInput(judge, request, scope);
          return modelOutput(judge, (await target.getResponse(given)) as ModelResponse, scope);
        };
      }
      if (member === "getStreamedResponse") {
        return (request: ModelRequest) => held(judge, target, request, requestScope(options, request));
      }
      const value: unknown = Reflect.get(target, member, target);
      return typeof value === "function" ? (value as (...a: unknown[]) => unknown).bind(target) : value;
    },
  });
}

/** What the guard needs of a model. */
export interface Model {
  // biome-ignore lint/suspicious/noExplicitAny: the SDK's own parameter types
  getResponse(request: any): Promise<any>;
  // biome-ignore lint/suspicious/noExplicitAny: the SDK's own parameter types
  getStreamedResponse(request: any): AsyncIterable<any>;
}

/** Judges the first input of a run, before the model has it. */
export function inputGuardrail(guard: Decider, options: AgentOptions = {}): InputGuardrail {
  const judge = new Judge(guard, via);
  return {
    name: "guardbook",
    // The default would let the model run, and tools, while the input is judged.
    runInParallel: false,
    execute: ({ input, agent }: { input: string | Item[]; agent?: Agent }) => {
      const request = typeof input === "string" ? input : requestOf(input);
      const scope = scopeOf(options, agent, request);
      return tripwire(async () => {
        const items: Item[] = typeof input === "string" ? [{ role: "user", content: input }] : input;
        const same = await Promise.all(
          items.map(async (item) => {
            if (isResult(item)) {
              const tool = { name: item.name ?? "tool" };
              return (await judge.value("tool_result", item.output, scope, { tool })) === item.output;
            }
            const role = item.role === "system" ? "system" : "user";
            return (await judge.value("input", item.content, scope, { role })) === item.content;
          }),
        );
        return same.every(Boolean);
      });
    },
  };
}

/** Judges the last output of a run, before the run's caller has it. */
export function outputGuardrail(guard: Decider, options: AgentOptions = {}): OutputGuardrail {
  const judge = new Judge(guard, via);
  return {
    name: "guardbook",
    execute: ({ agentOutput, agent }: { agentOutput: unknown; agent?: Agent }) =>
      tripwire(async () => {
        const scope = scopeOf(options, agent, undefined);
        return (await judge.value("output", agentOutput, scope, { role: "assistant" })) === agentOutput;
      }),
  };
}

/** A tool input guardrail (`type: "tool_input"`), for a tool that no guarded agent has. */
export function toolInputGuardrail(guard: Decider, options: AgentOptions = {}) {
  const judge = new Judge(guard, via);
  return {
    type: "tool_input" as const,
    name: "guardbook",
    run: async ({ toolCall, agent }: { toolCall: Call; agent?: unknown }): Promise<ToolGuardrailOutput> => {
      const scope = scopeOf(options, agent as Agent | undefined, undefined);
      const args = parse(toolCall.arguments);
      const verdict = await judge.call({ name: toolCall.name, callId: toolCall.callId }, args, scope);
      if (verdict.denied !== undefined) return reject(verdict.denied);
      // A guardrail cannot give a tool other arguments.
      if (verdict.args !== args && JSON.stringify(verdict.args) !== JSON.stringify(args)) {
        return reject("The arguments hold data that may not be given to this tool. Leave it out and try again.");
      }
      return allow;
    },
  };
}

/** A tool output guardrail (`type: "tool_output"`), for a tool that no guarded agent has. */
export function toolOutputGuardrail(guard: Decider, options: AgentOptions = {}) {
  const judge = new Judge(guard, via);
  return {
    type: "tool_output" as const,
    name: "guardbook",
    run: async (data: { toolCall: Call; agent?: unknown; output: unknown }): Promise<ToolGuardrailOutput> => {
      const scope = scopeOf(options, data.agent as Agent | undefined, undefined);
      const tool = { name: data.toolCall.name, callId: data.toolCall.callId };
      const judged = await judge.resultValue(tool, data.output, scope);
      if (judged.denied !== undefined) return reject(judged.denied);
      if (judged.value === data.output) return allow;
      return reject(typeof judged.value === "string" ? judged.value : JSON.stringify(judged.value));
    },
  };
}

registerWrapper({
  module: "openai-agents",
  matches: (o) => {
    const a = o as Partial<Agent>;
    return typeof a.clone === "function" && Array.isArray(a.handoffs) && Array.isArray(a.tools) && "instructions" in a;
  },
  wrap: (guard, value, context) => guardAgent(guard, value as Agent, context),
});

// ---- what is used of the SDK's objects

interface Item {
  type?: string;
  role?: string;
  name?: string;
  content?: unknown;
  output?: unknown;
}
interface Call {
  name: string;
  callId: string;
  arguments: string;
}
interface ToolGuardrailOutput {
  behavior: { type: "allow" } | { type: "rejectContent"; message: string };
}
const allow: ToolGuardrailOutput = { behavior: { type: "allow" } };
const reject = (message: string): ToolGuardrailOutput => ({ behavior: { type: "rejectContent", message } });

interface FunctionTool {
  type: string;
  name: string;
  invoke?: (context: unknown, input: string, details?: Details) => Promise<unknown>;
}
interface ActingTool extends Record<string, unknown> {
  type: string;
  name?: string;
}
interface Details {
  toolCall?: Partial<Call>;
  signal?: AbortSignal;
}
interface Handoff {
  toolName: string;
  agentName: string;
  agent?: Agent;
  onInvokeHandoff: (context: unknown, args: string) => Promise<Agent> | Agent;
}
interface MCPServer {
  readonly name: string;
  listTools(...rest: unknown[]): Promise<{ name: string }[]>;
  callTool(name: string, args: Record<string, unknown> | null, ...rest: unknown[]): Promise<unknown>;
}

// ---- models

interface ModelRequest {
  systemInstructions?: string;
  input: string | Item[];
  signal?: AbortSignal;
}
interface ModelResponse {
  output: (Item & { providerData?: unknown })[];
  providerData?: unknown;
}
interface StreamEvent {
  type: string;
  response?: ModelResponse;
}

function requestScope(options: AgentOptions, request: ModelRequest): Scope {
  const { models: _, ...context } = options;
  const asked = typeof request.input === "string" ? request.input : requestOf(request.input);
  return { ...context, context: task(request.systemInstructions, asked), signal: request.signal };
}

/** Judges what the model is about to read and has not been judged in this session; the newest always. */
async function modelInput(judge: Judge, request: ModelRequest, scope: Scope): Promise<ModelRequest> {
  if (request.systemInstructions) await judge.once("input", [request.systemInstructions], scope, { role: "system" });
  if (typeof request.input === "string") {
    const [input = ""] = await judge.once("input", [request.input], scope, { role: "user" }, true);
    return { ...request, input };
  }
  const newest = request.input.length - 1;
  const input = await Promise.all(
    request.input.map(async (item, i) => {
      if (isResult(item)) {
        const output = await judge.valueOnce("tool_result", item.output, scope, {
          tool: { name: item.name ?? "tool" },
        });
        return output === item.output ? item : { ...item, output };
      }
      if (item.content === undefined) return item;
      const said = item.role === "assistant";
      const role = said ? "assistant" : item.role === "system" ? "system" : "user";
      const content = await judge.valueOnce(
        said ? "output" : "input",
        item.content,
        scope,
        { role },
        i === newest && !said,
      );
      return content === item.content ? item : { ...item, content };
    }),
  );
  return { ...request, input };
}

/** Judges an answer. Calls of tools are judged where they run. */
async function modelOutput(judge: Judge, response: ModelResponse, scope: Scope): Promise<ModelResponse> {
  const output = await Promise.all(
    response.output.map(async (item) => {
      if (item.content === undefined) return item;
      const content = await judge.value("output", item.content, scope, { role: "assistant" });
      if (content === item.content) return item;
      const { providerData: _, ...rest } = item;
      return { ...rest, content: withoutCopies(content) };
    }),
  );
  if (output.every((item, i) => item === response.output[i])) return response;
  // The provider's own answer has the text a second time.
  const { providerData: _, ...rest } = response;
  return { ...rest, output };
}

function withoutCopies(content: unknown): unknown {
  if (!Array.isArray(content)) return content;
  return content.map((part: object) => {
    const { providerData: _, ...rest } = part as { providerData?: unknown };
    return rest;
  });
}

async function* held(judge: Judge, model: Model, request: ModelRequest, scope: Scope): AsyncGenerator<StreamEvent> {
  const given = await modelInput(judge, request, scope);
  let waiting: StreamEvent[] = [];
  for await (const event of model.getStreamedResponse(given) as AsyncIterable<StreamEvent>) {
    if (event.type === "response_started") yield event;
    else if (event.type !== "response_done" || !event.response) waiting.push(event);
    else {
      const response = await modelOutput(judge, event.response, scope);
      if (response === event.response) yield* waiting;
      else {
        const text = response.output.flatMap((i) =>
          Array.isArray(i.content) ? (i.content as { text?: unknown }[]) : [],
        );
        const delta = text.map((p) => (typeof p.text === "string" ? p.text : "")).join("");
        yield { type: "output_text_delta", delta } as StreamEvent;
      }
      waiting = [];
      yield { ...event, response };
    }
  }
}

function isResult(item: Item): boolean {
  return /_(result|output)$/.test(item.type ?? "");
}

// ---- the walk

/** Guards an agent and everything that it leads to, each once: agents may hand off in circles. */
class Walk {
  readonly #judge: Judge;
  readonly #agents = new Map<Agent, Agent>();

  constructor(
    readonly guard: Decider,
    readonly options: AgentOptions,
  ) {
    this.#judge = new Judge(guard, via);
  }

  agent(agent: Agent): Agent {
    const known = this.#agents.get(agent);
    if (known) return known;
    const model = (agent as { model?: unknown }).model;
    const own =
      this.options.models !== "gateway" && isModel(model) ? guardModel(this.guard, model, this.options) : undefined;
    const here = this.options.models !== "gateway" && !own;
    const guarded = agent.clone({
      ...(own && { model: own }),
      tools: agent.tools.map((t) => this.#tool(t, agent)),
      mcpServers: agent.mcpServers.map((s) => this.#server(s as MCPServer, agent)),
      handoffs: [],
      inputGuardrails: here
        ? [inputGuardrail(this.guard, this.options), ...agent.inputGuardrails]
        : agent.inputGuardrails,
      outputGuardrails: here
        ? [...agent.outputGuardrails, outputGuardrail(this.guard, this.options)]
        : agent.outputGuardrails,
    }) as Agent;
    this.#agents.set(agent, guarded);
    this.#agents.set(guarded, guarded);
    guarded.handoffs = agent.handoffs.map((h) => this.#handoff(h, agent));
    return guarded;
  }

  #tool(tool: unknown, agent: Agent): unknown {
    const t = tool as FunctionTool;
    // Hosted tools run at the provider: policy judges them at the gateway. A computer, a
    // shell and an editor act here, without a hook that could stop them.
    if (typeof t.invoke !== "function") return this.#acting(tool as ActingTool, agent);
    const run = t.invoke;
    const judge = this.#judge;
    const options = this.options;
    return copy(t, {
      invoke: async (context: unknown, input: string, details?: Details) => {
        const scope = { ...scopeOf(options, agent, undefined), signal: details?.signal };
        const which = { name: t.name, callId: details?.toolCall?.callId };
        const args = parse(input);
        const verdict = await judge.call(which, args, scope);
        if (verdict.denied !== undefined) return verdict.denied;
        const given = verdict.args === args || typeof args !== "object" ? input : JSON.stringify(verdict.args);
        let result: unknown;
        try {
          result = await run.call(t, context, given, details);
        } catch (error) {
          if (details?.signal?.aborted || !(error instanceof Error)) throw error;
          // Where errors end the run they still do; their words may get to a model.
          const judged = await judge.result(which, [error.message], scope);
          if (judged.denied !== undefined) return judged.denied;
          if (judged.texts[0] !== error.message) return judged.texts[0];
          throw error;
        }
        const judged = await judge.resultValue(which, result, scope);
        return judged.denied ?? judged.value;
      },
    });
  }

  /** Tools that act on this machine: what they are asked to do is judged where it is done. */
  #acting(tool: ActingTool, agent: Agent): unknown {
    const actor = (["computer", "shell", "editor"] as const).find(
      (m) => typeof tool[m] === "object" && tool[m] !== null,
    );
    if (!actor) return tool;
    const scope = scopeOf(this.options, agent, undefined);
    const inner = tool[actor] as object;
    const judge = this.#judge;
    const guarded = new Proxy(inner, {
      get(target, member) {
        const value: unknown = Reflect.get(target, member, target);
        if (typeof value !== "function") return value;
        return async (...args: unknown[]) => {
          const which = { name: tool.name ?? tool.type };
          const verdict = await judge.call(which, { action: String(member), ...numbered(args) }, scope);
          if (verdict.denied !== undefined) {
            throw new GuardBlocked({
              decision: "block",
              entry: "",
              rule: "",
              severity: "high",
              message: verdict.denied,
            });
          }
          const result: unknown = await (value as (...a: unknown[]) => unknown).apply(target, args);
          const judged = await judge.resultValue(which, result, scope);
          if (judged.denied !== undefined) {
            throw new GuardBlocked({
              decision: "block",
              entry: "",
              rule: "",
              severity: "high",
              message: judged.denied,
            });
          }
          return judged.value;
        };
      },
    });
    return copy(tool, { [actor]: guarded });
  }

  #server(server: MCPServer, agent: Agent): MCPServer {
    const judge = this.#judge;
    const scope = () => scopeOf(this.options, agent, undefined);
    const refused = new Set<string>();
    const call = async (method: "callTool" | "callToolResult", args: unknown[]) => {
      const [name, given, ...rest] = args as [string, Record<string, unknown> | null, ...unknown[]];
      const which = { server: server.name, name };
      const wrong = (text: string) =>
        method === "callTool" ? [{ type: "text", text }] : { content: [{ type: "text", text }], isError: true };
      if (refused.has(name))
        return wrong(`The tool ${JSON.stringify(name)} is not allowed: its definition was refused.`);
      const verdict = await judge.call(which, given, scope());
      if (verdict.denied !== undefined) return wrong(verdict.denied);
      const target = server as unknown as Record<string, (...a: unknown[]) => Promise<unknown>>;
      const result = await target[method]?.(name, given === null ? given : verdict.args, ...rest);
      const judged = await judge.resultValue(which, result, scope());
      return judged.denied !== undefined ? wrong(judged.denied) : judged.value;
    };
    return new Proxy(server, {
      get(target, member) {
        if (member === "callTool") return (...args: unknown[]) => call("callTool", args);
        if (member === "callToolResult" && member in target)
          return (...args: unknown[]) => call("callToolResult", args);
        if (member === "listTools") {
          return async (...args: unknown[]) => {
            const tools = await target.listTools(...args);
            const fine = await Promise.all(
              tools.map((t) => judge.definition({ server: server.name, name: t.name }, t, scope())),
            );
            tools.forEach((t, i) => {
              if (fine[i]) refused.delete(t.name);
              else refused.add(t.name);
            });
            return tools.filter((_, i) => fine[i]);
          };
        }
        const value: unknown = Reflect.get(target, member, target);
        return typeof value === "function" ? (value as (...a: unknown[]) => unknown).bind(target) : value;
      },
      set: (target, member, value) => Reflect.set(target, member, value, target),
    });
  }

  /** A handoff is a tool call of its own, and leads to an agent that is guarded, too. */
  #handoff(handoff: unknown, from: Agent): unknown {
    const h = handoff as Handoff & Agent;
    if (typeof h.onInvokeHandoff !== "function") return this.agent(h);
    const invoke = h.onInvokeHandoff;
    return copy(h, {
      ...(h.agent && { agent: this.agent(h.agent) }),
      onInvokeHandoff: async (context: unknown, args: string) => {
        const verdict = await this.#judge.call(
          { name: h.toolName },
          parse(args),
          scopeOf(this.options, from, undefined),
        );
        if (verdict.denied !== undefined) {
          // There is no output that a handoff could have instead.
          throw new GuardBlocked({ decision: "block", entry: "", rule: "", severity: "high", message: verdict.denied });
        }
        return this.agent(await invoke.call(h, context, args));
      },
    });
  }
}

function isModel(value: unknown): value is Model {
  const m = value as Partial<Model> | undefined;
  return (
    typeof m === "object" &&
    m !== null &&
    typeof m.getResponse === "function" &&
    typeof m.getStreamedResponse === "function"
  );
}

/** The same object with some members of its own; symbols and hidden members come along. */
function copy<T extends object>(from: T, members: object): T {
  const made = Object.create(Object.getPrototypeOf(from), Object.getOwnPropertyDescriptors(from)) as T;
  for (const [name, value] of Object.entries(members)) {
    Object.defineProperty(made, name, { value, configurable: true, enumerable: true, writable: true });
  }
  return made;
}

/** Runs a guardrail: a denial trips it. What would have to be redacted does, too: a guardrail cannot change a text. */
async function tripwire(unchanged: () => Promise<boolean>) {
  try {
    if (await unchanged()) return { tripwireTriggered: false, outputInfo: {} };
    const message = "This holds data that may not pass here, and a guardrail cannot take it out.";
    return {
      tripwireTriggered: true,
      outputInfo: new GuardBlocked({ decision: "redact", entry: "", rule: "", severity: "high", message }),
    };
  } catch (error) {
    if (!(error instanceof GuardBlocked) && !(error instanceof GuardUnavailable)) throw error;
    return { tripwireTriggered: true, outputInfo: error };
  }
}

function parse(input: string): unknown {
  try {
    return JSON.parse(input || "{}");
  } catch {
    return { input };
  }
}

function numbered(args: readonly unknown[]): Record<string, unknown> {
  return Object.fromEntries(args.map((a, i) => [`argument${i + 1}`, a]));
}

function requestOf(items: readonly Item[]): string | undefined {
  const last = [...items].reverse().find((i) => i.role === "user");
  return last && (typeof last.content === "string" ? last.content : JSON.stringify(last.content));
}

function scopeOf(options: AgentOptions, agent: Agent | undefined, request: string | undefined): Scope {
  const { models: _, ...context } = options;
  return {
    ...context,
    context: task(typeof agent?.instructions === "string" ? agent.instructions : undefined, request),
  };
}
