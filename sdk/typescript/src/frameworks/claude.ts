/**
 * Guardbook for the Claude Agent SDK (`@anthropic-ai/claude-agent-sdk`).
 *
 * ```ts
 * import { guardHooks } from "guardbook/claude";
 * query({ prompt, options: { hooks: guardHooks(guard) } });
 * ```
 *
 * It covers prompts, every tool call (also of subagents and of MCP servers) and its
 * result. No hook sees what the model writes before it is shown: for that, let the
 * requests go through the gateway, with `ANTHROPIC_BASE_URL` in `options.env`.
 *
 * @module
 */
import { GuardBlocked, GuardUnavailable } from "../errors.js";
import type { Context } from "../interaction.js";
import { blockedBy, type Decider, Judge, type Scope } from "./inner/judge.js";

export { blockedBy };

const via = "typescript/claude";

/** How {@link guardHooks} works. */
export interface HookOptions extends Omit<Context, "via" | "signal" | "context"> {
  /** The task, if it is more than the prompt: the system prompt, for example. */
  task?: string;
  /** How long a hook may take, in seconds, before the action that waits for it is blocked. Default 30. */
  timeout?: number;
}

/** What a hook answers. */
export interface HookOutput {
  continue?: boolean;
  stopReason?: string;
  decision?: "block";
  reason?: string;
  hookSpecificOutput?:
    | {
        hookEventName: "PreToolUse";
        permissionDecision?: "deny";
        permissionDecisionReason?: string;
        updatedInput?: Record<string, unknown>;
      }
    | { hookEventName: "PostToolUse"; updatedToolOutput: unknown };
}

/** A matcher of the SDK's `hooks` option. */
export interface HookMatcher {
  // biome-ignore lint/suspicious/noExplicitAny: the SDK's union of all inputs
  hooks: ((input: any, toolUseID: string | undefined, options: { signal: AbortSignal }) => Promise<HookOutput>)[];
  timeout: number;
  onFailure: "block";
}

/** The hooks that guard an agent, for the SDK's `hooks` option. */
export interface GuardedHooks {
  UserPromptSubmit: HookMatcher[];
  UserPromptExpansion: HookMatcher[];
  PreToolUse: HookMatcher[];
  PostToolUse: HookMatcher[];
  PostToolUseFailure: HookMatcher[];
  PostToolBatch: HookMatcher[];
}

interface Input {
  session_id?: string;
  prompt?: string;
  tool_name?: string;
  tool_input?: unknown;
  tool_use_id?: string;
  tool_response?: unknown;
  error?: string;
  tool_calls?: { tool_use_id: string }[];
}

// How many sessions' prompts are remembered as the task that results are judged against.
const remembered = 256;

/**
 * Hooks for the SDK. With hooks of your own: `{ ...own, PreToolUse: [...guarded.PreToolUse, ...own.PreToolUse] }`,
 * and so on for each event that both have.
 *
 * A denied call or result is what the model reads in its place, and the agent goes on.
 * A denied prompt is refused. A hook that fails blocks (Claude Code 2.1.295 and newer;
 * older ones go on, so these hooks answer with a denial whatever goes wrong in them).
 */
export function guardHooks(guard: Decider, options: HookOptions = {}): GuardedHooks {
  const judge = new Judge(guard, via);
  const prompts = new Map<string, string>();
  // Failed calls whose error the model may not read, until their batch is done.
  const unreadable = new Map<string, string>();
  const { task: instructions, timeout = 30, ...context } = options;

  const scopeOf = (input: Input, signal: AbortSignal): Scope => {
    const prompt = prompts.get(input.session_id ?? "");
    const words = [instructions, prompt].filter(Boolean).join("\n\n");
    return { ...context, thread: input.session_id, context: words || undefined, signal };
  };
  const matcher = (
    hook: (input: Input, scope: Scope) => Promise<HookOutput>,
    failed: (why: string, input: Input) => HookOutput,
  ): HookMatcher => ({
    timeout,
    onFailure: "block",
    hooks: [
      async (input: Input, _id, { signal }) => {
        try {
          return await hook(input, scopeOf(input, signal));
        } catch (error) {
          return failed(error instanceof Error ? error.message : String(error), input);
        }
      },
    ],
  });

  const refusePrompt = (reason: string): HookOutput => ({ decision: "block", reason });
  const deny = (why: string): HookOutput => ({
    hookSpecificOutput: { hookEventName: "PreToolUse", permissionDecision: "deny", permissionDecisionReason: why },
  });
  const stop = (why: string): HookOutput => ({ continue: false, stopReason: why });

  const prompt = matcher(async (input, scope) => {
    const text = input.prompt ?? "";
    prompts.delete(input.session_id ?? "");
    prompts.set(input.session_id ?? "", text);
    for (const oldest of prompts.keys()) {
      if (prompts.size <= remembered) break;
      prompts.delete(oldest);
    }
    try {
      const [after] = await judge.texts("input", [text], scope, { role: "user" });
      // A hook can refuse a prompt, but not change it.
      return after === text
        ? {}
        : refusePrompt("The prompt holds data that may not be given to the model. Leave it out.");
    } catch (error) {
      if (error instanceof GuardBlocked || error instanceof GuardUnavailable) return refusePrompt(error.message);
      throw error;
    }
  }, refusePrompt);

  return {
    UserPromptSubmit: [prompt],
    UserPromptExpansion: [prompt],
    PreToolUse: [
      matcher(async (input, scope) => {
        const args = input.tool_input;
        const verdict = await judge.call({ ...toolOf(input), callId: input.tool_use_id }, args, scope);
        if (verdict.denied !== undefined) return deny(verdict.denied);
        if (verdict.args === args || args === undefined) return {};
        // Without a permissionDecision: "allow" would pass over the user's own permissions.
        return { hookSpecificOutput: { hookEventName: "PreToolUse", updatedInput: verdict.args } };
      }, deny),
    ],
    PostToolUse: [
      matcher(async (input, scope) => {
        const before = input.tool_response;
        const judged = await judge.resultValue({ ...toolOf(input), callId: input.tool_use_id }, before, scope);
        const after = judged.denied !== undefined ? instead(before, judged.denied) : judged.value;
        // Hooks run side by side on the same output, and the last rewrite wins: one that
        // changes nothing would undo another's.
        if (after === before) return {};
        return { hookSpecificOutput: { hookEventName: "PostToolUse", updatedToolOutput: after } };
      }, stop),
    ],
    // Nothing that this event's hook answers is heeded, and the words of an error cannot
    // be replaced: the agent stops when the calls beside it are done, before it reads them.
    PostToolUseFailure: [
      matcher(
        async (input, scope) => {
          const text = input.error ?? "";
          const judged = await judge.result({ ...toolOf(input), callId: input.tool_use_id }, [text], scope);
          if (judged.denied !== undefined) unreadable.set(input.tool_use_id ?? "", judged.denied);
          else if (judged.texts[0] !== text) unreadable.set(input.tool_use_id ?? "", heldData);
          return {};
        },
        (why, input) => {
          unreadable.set(input.tool_use_id ?? "", why);
          return {};
        },
      ),
    ],
    PostToolBatch: [
      matcher(async (input) => {
        const found = (input.tool_calls ?? []).flatMap(({ tool_use_id }) => {
          const why = unreadable.get(tool_use_id);
          unreadable.delete(tool_use_id);
          return why === undefined ? [] : [why];
        });
        return found[0] === undefined ? {} : stop(found[0]);
      }, stop),
    ],
  };
}

const heldData = "A tool's error holds data that may not be given to the model.";

/** The tool as policies name it: mcp__SERVER__NAME is a tool of a server. */
function toolOf(input: Input): { server?: string; name: string } {
  const name = input.tool_name ?? "";
  const parts = /^mcp__(.+?)__(.+)$/s.exec(name);
  return parts?.[1] && parts[2] ? { server: parts[1], name: parts[2] } : { name };
}

/** What a tool's output becomes when it was denied: in its shape, which the CLI checks. */
function instead(output: unknown, text: string): unknown {
  if (Array.isArray(output)) return [{ type: "text", text }];
  if (typeof output !== "object" || output === null) return text;
  if (Array.isArray((output as { content?: unknown }).content))
    return { content: [{ type: "text", text }], isError: true };
  return emptied(output, text);
}

/** The same object with the text in the place of its longest one, and the others empty: its type says how it is read. */
function emptied(value: object, text: string): object {
  let longest = "";
  const find = (v: unknown, name: string): void => {
    if (typeof v === "string" && name !== "type" && v.length > longest.length) longest = v;
    else if (typeof v === "object" && v !== null) for (const [k, x] of Object.entries(v)) find(x, k);
  };
  find(value, "");
  let said = false;
  const build = (v: unknown, name: string): unknown => {
    if (typeof v === "string") {
      if (name === "type") return v;
      if (said || v !== longest) return "";
      said = true;
      return text;
    }
    if (Array.isArray(v)) return v.map((x) => build(x, name));
    if (typeof v !== "object" || v === null) return v;
    return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, build(x, k)]));
  };
  return build(value, "") as object;
}
