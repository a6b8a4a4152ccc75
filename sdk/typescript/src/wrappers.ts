import type { Guard } from "./guard.js";
import type { Context } from "./interaction.js";

/** What a framework's module knows how to guard. */
export interface Wrapper {
  /** The module: `mcp` for `guardbook/mcp`. */
  module: string;
  /** Whether value is one of its objects. */
  matches(value: object): boolean;
  /** Gives a guarded one. */
  wrap(guard: Guard, value: object, context: Context): object;
}

// One list for the whole process, whichever module format asks.
const key: unique symbol = Symbol.for("guardbook.wrappers") as never;
const shared = globalThis as { [key]?: Map<string, Wrapper> };
shared[key] ??= new Map<string, Wrapper>();
const loaded = shared[key];

/** Makes a framework's objects known to {@link Guard.wrap}. A framework's module calls it when it is imported. */
export function registerWrapper(wrapper: Wrapper): void {
  loaded.set(wrapper.module, wrapper);
}

/** How objects of frameworks look whose module may not be imported yet. Nothing of a framework is imported to tell. */
const looks: readonly { module: string; what: string; matches(o: Shape): boolean }[] = [
  {
    module: "mcp",
    what: "an MCP client or transport",
    matches: (o) => has(o, "callTool", "listTools") || has(o, "start", "send", "close"),
  },
  {
    module: "openai-agents",
    what: "an agent of the OpenAI Agents SDK",
    matches: (o) => "handoffs" in o && "tools" in o && "instructions" in o,
  },
  { module: "langchain", what: "a LangChain model or tool", matches: (o) => "lc_namespace" in o },
  {
    module: "ai",
    what: "a model of the AI SDK",
    matches: (o) => "specificationVersion" in o && has(o, "doGenerate", "doStream"),
  },
];

type Shape = Record<string, unknown>;

function has(o: Shape, ...methods: string[]): boolean {
  return methods.every((m) => typeof o[m] === "function");
}

const supported =
  "guard.wrap takes a client of openai (OpenAI, AzureOpenAI) or @anthropic-ai/sdk (Anthropic), an MCP client or transport (guardbook/mcp), " +
  "an agent of the OpenAI Agents SDK (guardbook/openai-agents), a LangChain object (guardbook/langchain), or a model of the AI SDK (guardbook/ai). " +
  "For any other client that takes a fetch, give it guard.fetch.";

function find<T extends object>(guard: Guard, value: T, context: Context): T | undefined {
  for (const w of loaded.values()) if (w.matches(value)) return w.wrap(guard, value, context) as T;
  return undefined;
}

/** Wraps with a module that is already imported. */
export function wrapWithLoaded<T extends object>(guard: Guard, value: T, context: Context): T {
  const done = isObject(value) ? find(guard, value, context) : undefined;
  if (done) return done;
  const look = isObject(value) ? looks.find((l) => l.matches(value as Shape)) : undefined;
  if (look) {
    throw new TypeError(
      `This looks like ${look.what}: add import "guardbook/${look.module}" first, or use await guard.wrapAsync(...).`,
    );
  }
  throw new TypeError(`${describe(value)} cannot be guarded. ${supported}`);
}

/** Wraps, and imports the module that is needed. */
export async function wrapWith<T extends object>(guard: Guard, value: T, context: Context): Promise<T> {
  const done = isObject(value) ? find(guard, value, context) : undefined;
  if (done) return done;
  const look = isObject(value) ? looks.find((l) => l.matches(value as Shape)) : undefined;
  if (look) await import(`./frameworks/${look.module}.js`);
  return wrapWithLoaded(guard, value, context);
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

function describe(value: unknown): string {
  if (value === null || typeof value !== "object") return `A value of type ${value === null ? "null" : typeof value}`;
  return `An object of class ${value.constructor?.name ?? "without a name"}`;
}
