// What every framework's module needs: asking for a decision in the shape of that
// framework, and carrying it out. No framework is known here.
import { createHash } from "node:crypto";
import { GuardBlocked, GuardUnavailable } from "../../errors.js";
import {
  type Content,
  type Context,
  type Decision,
  denies,
  type Interaction,
  type Part,
  type Tool,
} from "../../interaction.js";
import { spread } from "./spread.js";

/** What the modules need of a {@link Guard}. */
export interface Decider {
  decide(interaction: Interaction): Promise<Decision>;
}

/** Whose interaction it is; `via` is filled in. */
export type Scope = Omit<Context, "via">;

/** A tool call that was judged: it runs with args, or its caller is told why not. */
export type CallVerdict = { denied: string; args?: undefined } | { denied?: undefined; args: Record<string, unknown> };

/** A result that was judged: the texts that take the place of the ones that came, or why there are none. */
export type TextVerdict = { denied: string; texts?: undefined } | { denied?: undefined; texts: string[] };

// How many judged texts are remembered. A text that fell out is judged again.
const remembered = 4096;

/** Asks for one framework. */
export class Judge {
  readonly #guard: Decider;
  readonly #via: string;
  // A conversation is sent to the model again and again, longer each time. What was
  // judged in a session is not judged again; what it was replaced with is.
  readonly #seen = new Map<string, string[]>();

  constructor(guard: Decider, via: string) {
    this.#guard = guard;
    this.#via = via;
  }

  /** The bare decision. */
  decide(interaction: Interaction): Promise<Decision> {
    return this.#guard.decide({ ...interaction, via: this.#via });
  }

  /**
   * Judges texts that belong together: one message, one result. Gives back the texts
   * that may pass; throws GuardBlocked when they may not.
   */
  async texts(
    kind: Interaction["kind"],
    texts: readonly string[],
    scope: Scope,
    more: Pick<Interaction, "role" | "tool"> = {},
  ): Promise<string[]> {
    const first = texts[0];
    if (first === undefined || texts.every((t) => t === "")) return [...texts];
    const content: Content = texts.length === 1 ? first : texts.map((text): Part => ({ type: "text", text }));
    const d = await this.decide({ ...scope, ...more, kind, content });
    if (denies(d)) throw new GuardBlocked(d);
    return replaced(d, texts);
  }

  /**
   * {@link texts} for a value of any shape: every text in it, each with its name.
   * Gives back the very value when nothing in it changed.
   */
  async value(
    kind: Interaction["kind"],
    value: unknown,
    scope: Scope,
    more: Pick<Interaction, "role" | "tool"> = {},
  ): Promise<unknown> {
    const { texts, rebuild } = spread(value);
    const passed = await this.texts(kind, texts, scope, more);
    return passed.every((t, i) => t === texts[i]) ? value : rebuild(passed);
  }

  /** {@link texts} for what may have been judged in this session before. */
  async once(
    kind: Interaction["kind"],
    texts: readonly string[],
    scope: Scope,
    more: Pick<Interaction, "role" | "tool"> = {},
    again = false,
  ): Promise<string[]> {
    const key = keyOf(kind, texts, scope, more.tool);
    const known = this.#seen.get(key);
    if (known && !again) return [...known];
    const passed = await this.texts(kind, texts, scope, more);
    this.#keep(key, passed);
    return [...passed];
  }

  /** {@link once} for a value of any shape. */
  async valueOnce(
    kind: Interaction["kind"],
    value: unknown,
    scope: Scope,
    more: Pick<Interaction, "role" | "tool"> = {},
    again = false,
  ): Promise<unknown> {
    const { texts, rebuild } = spread(value);
    const passed = await this.once(kind, texts, scope, more, again);
    return passed.every((t, i) => t === texts[i]) ? value : rebuild(passed);
  }

  /** Remembers that texts passed, as a result that was judged when the tool gave it. */
  remember(kind: Interaction["kind"], value: unknown, scope: Scope, tool?: Tool): void {
    const texts = Array.isArray(value) && value.every((v) => typeof v === "string") ? value : spread(value).texts;
    this.#keep(keyOf(kind, texts, scope, tool), [...texts]);
  }

  #keep(key: string, passed: string[]): void {
    this.#seen.delete(key);
    this.#seen.set(key, passed);
    for (const oldest of this.#seen.keys()) {
      if (this.#seen.size <= remembered) break;
      this.#seen.delete(oldest);
    }
  }

  /** Judges a tool call before it runs. It never throws for a denial: the model is to be told. */
  async call(tool: Omit<Tool, "arguments">, args: unknown, scope: Scope): Promise<CallVerdict> {
    const given = asArguments(args);
    try {
      const d = await this.decide({ ...scope, kind: "tool_call", tool: { ...tool, arguments: given } });
      if (denies(d)) return { denied: new GuardBlocked(d).message };
      return { args: d.decision === "redact" && d.arguments ? d.arguments : given };
    } catch (error) {
      return { denied: refusal(error) };
    }
  }

  /** Judges what a tool gave back, or the text of its error, before the model reads it. */
  async result(tool: Omit<Tool, "arguments">, texts: readonly string[], scope: Scope): Promise<TextVerdict> {
    try {
      return { texts: await this.texts("tool_result", texts, scope, { tool }) };
    } catch (error) {
      return { denied: refusal(error) };
    }
  }

  /** {@link result} for a value of any shape. */
  async resultValue(
    tool: Omit<Tool, "arguments">,
    value: unknown,
    scope: Scope,
  ): Promise<{ denied: string } | { denied?: undefined; value: unknown }> {
    try {
      return { value: await this.value("tool_result", value, scope, { tool }) };
    } catch (error) {
      return { denied: refusal(error) };
    }
  }

  /** Judges a tool's definition, once for each wording. Gives back whether the model may see it. */
  async definition(tool: Omit<Tool, "arguments">, definition: unknown, scope: Scope): Promise<boolean> {
    try {
      await this.once("tool_definition", spread(definition).texts, scope, { tool });
      return true;
    } catch (error) {
      if (error instanceof GuardBlocked) return false;
      throw error;
    }
  }
}

function keyOf(kind: string, texts: readonly string[], scope: Scope, tool?: Tool): string {
  const hash = createHash("sha256");
  for (const part of [scope.session ?? "", scope.thread ?? "", kind, tool?.name ?? "", ...texts]) {
    hash.update(`${part.length}:`).update(part);
  }
  return hash.digest("base64");
}

/** What the model is told of a call or a result that the guard stopped; anything else goes on its way. */
function refusal(error: unknown): string {
  if (error instanceof GuardBlocked || error instanceof GuardUnavailable) return error.message;
  throw error;
}

function asArguments(args: unknown): Record<string, unknown> {
  if (typeof args === "object" && args !== null && !Array.isArray(args)) return args as Record<string, unknown>;
  return args === undefined || args === null ? {} : { input: args };
}

/** The texts that a decision lets pass, in the places of those that were judged. */
function replaced(d: Decision, texts: readonly string[]): string[] {
  if (d.decision !== "redact" || d.content === undefined) return [...texts];
  if (typeof d.content === "string")
    return texts.length === 1 ? [d.content] : [d.content, ...texts.slice(1).map(() => "")];
  return texts.map((_, i) => (d.content as readonly Part[])[i]?.text ?? "");
}

/** The agent's task in one text: the system prompt and the newest request. */
export function task(system: string | undefined, request: string | undefined): string | undefined {
  const text = [system, request].filter(Boolean).join("\n\n");
  // The server takes 1 MiB; a half each, as the gateway cuts.
  const half = 32_768;
  if (text.length <= 2 * half) return text || undefined;
  return `${(system ?? "").slice(0, half)}\n\n${(request ?? "").slice(0, half)}`;
}

/**
 * The GuardBlocked behind a framework's own error, or undefined. Frameworks wrap what a
 * hook throws: look here before you tell the user that something broke.
 */
export function blockedBy(error: unknown): GuardBlocked | undefined {
  const waiting: unknown[] = [error];
  const visited = new Set<unknown>();
  while (waiting.length > 0) {
    const e = waiting.shift();
    if (typeof e !== "object" || e === null || visited.has(e)) continue;
    visited.add(e);
    if (e instanceof GuardBlocked) return e;
    const { cause, error: inner, errors, lastError, result, guardbook, responseBody } = e as Record<string, unknown>;
    // A provider's client has the body of the gateway's answer in its error.
    if (typeof (guardbook as Partial<Decision> | undefined)?.decision === "string") {
      return new GuardBlocked(guardbook as Decision);
    }
    if (typeof responseBody === "string" && responseBody.includes('"guardbook"')) {
      try {
        waiting.push(JSON.parse(responseBody)); // the AI SDK keeps the body as it came
      } catch {
        // Cut short: nothing to read there.
      }
    }
    waiting.push(cause, inner, lastError, ...(Array.isArray(errors) ? errors : []));
    // An OpenAI Agents tripwire carries what the guardrail found.
    const output = (result as { output?: { outputInfo?: unknown } } | undefined)?.output;
    waiting.push(output?.outputInfo);
  }
  return undefined;
}
