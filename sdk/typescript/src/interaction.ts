/** What an agent takes in or puts out. */
export type Kind = "input" | "output" | "tool_call" | "tool_result" | "tool_definition" | "memory";

/** What a decision does, mildest first. In `monitor` mode it is never more than `flag`. */
export type Action = "allow" | "log" | "flag" | "redact" | "hold" | "block";

/** How bad something is. */
export type Severity = "info" | "low" | "medium" | "high" | "critical";

/** A piece of content. Only texts are read; the others say that something was there. */
export interface Part {
  type: "text" | "image" | "audio" | "file" | (string & {});
  text?: string;
}

/** A text, or a list of parts. */
export type Content = string | readonly Part[];

/** The tool that an interaction is about. */
export interface Tool {
  /** The MCP server or toolbox that it comes from, if any. */
  server?: string | undefined;
  name: string;
  /** The provider's id of this call, if any. */
  callId?: string | undefined;
  /** For a `tool_call`: its arguments, which must be JSON. */
  arguments?: Record<string, unknown> | undefined;
}

/** Whose interaction it is, and the task it belongs to. */
export interface Context {
  /** The conversation. Default: see {@link Guard.session}. */
  session?: string | undefined;
  /** A framework's own id of the conversation: used when neither the caller nor {@link Guard.session} gives one. */
  thread?: string | undefined;
  /** Whom the agent works for. */
  user?: string | undefined;
  /** The agent that delegated to this one. */
  parent?: string | undefined;
  /** The agent's task: the system prompt and the user's request. A tool result is judged against it. */
  context?: string | undefined;
  /** The entry path, as the book names it: `typescript/langchain`. Default `typescript`. */
  via?: string | undefined;
  /** Ends the wait for the decision; the call then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** One thing to decide on. */
export interface Interaction extends Context {
  kind: Kind;
  /** Required for every kind but `tool_call`. */
  content?: Content | undefined;
  /** Required for `tool_call`. */
  tool?: Tool | undefined;
  role?: "system" | "user" | "assistant" | undefined;
}

/** What a detector saw. */
export interface Finding {
  class: string;
  severity: Severity;
  confidence: number;
  rule: string;
  layer: string;
  [member: string]: unknown;
}

/** What the guard decided. */
export interface Decision {
  decision: Action;
  /** The id of the entry in the book; empty when `unguarded`. */
  entry: string;
  rule: string;
  severity: Severity;
  /** For people, and for the model when a tool was denied. */
  message: string;
  findings: readonly Finding[];
  policy?: string;
  mode?: "enforce" | "monitor";
  /** In `monitor` mode: what would have happened. */
  would?: Action;
  /** With `redact`: takes the place of the content, in the form in which it was given. */
  content?: Content;
  /** With `redact`: takes the place of the tool's arguments. */
  arguments?: Record<string, unknown>;
  /** There is no decision: no server answered in time, and the failure mode says that this may pass. It is recorded. */
  unguarded?: boolean;
}

/** Whether a decision stops the interaction. `hold` does, until someone approved it; what is not known here does, too. */
export function denies(d: Decision): boolean {
  return !releases.includes(d.decision);
}

const releases: readonly Action[] = ["allow", "log", "flag", "redact"];
