// The entries of the book as TypeScript sees them. The Go structs of the root
// package (entry.go, finding.go, decision.go) are the source; members that a build
// of the server does not send are optional here and shown as absent.

export const kinds = ["input", "output", "tool_call", "tool_result", "tool_definition", "memory"] as const;
export const classes = [
  "prompt_injection",
  "jailbreak",
  "data_exfiltration",
  "pii",
  "secret",
  "privilege_escalation",
  "tool_misuse",
  "tool_poisoning",
  "code_execution",
  "memory_poisoning",
  "anomaly",
] as const;
export const severities = ["info", "low", "medium", "high", "critical"] as const;
export const actions = ["allow", "log", "flag", "redact", "hold", "block"] as const;
export const entryTypes = [
  "decision",
  "stream",
  "refusal",
  "passthrough",
  "policy",
  "containment",
  "alert",
  "notification",
  "agent",
  "operator",
  "degraded",
  "client",
  "tool",
  "canary",
  "start",
  "stop",
  "heartbeat",
] as const;

export type Severity = (typeof severities)[number];
export type Action = (typeof actions)[number];
export type EntryType = (typeof entryTypes)[number];

export interface Header {
  v: number;
  log: string;
  seq: number;
  id: string;
  ts: string;
  rec: string;
  instance: string;
  type: EntryType;
  tenant: string;
}

export interface Span {
  path: string;
  start: number;
  end: number;
}

export interface Finding {
  class: string;
  severity: Severity;
  confidence: number;
  rule: string;
  layer: string;
  span?: Span;
  excerpt?: string;
  message?: string;
}

export interface LayerRun {
  name: string;
  version?: string;
  us: number;
  error?: string;
}

export interface ToolRef {
  server?: string;
  name: string;
  call_id?: string;
}

export interface DecisionEntry extends Header {
  type: "decision";
  agent: string;
  session: string;
  user?: string;
  parent?: string;
  kind: string;
  role?: string;
  path: string;
  tool?: ToolRef;
  layers?: LayerRun[];
  findings?: Finding[];
  decision: Action;
  would?: Action;
  rule: string;
  severity: Severity;
  message?: string;
  policy: string;
  bundle: string;
  mode: string;
  cached: boolean;
  fail_open?: boolean;
  bytes: number;
  us: number;
  commitment: string;
  client_seq?: number;
  alert?: string;
  containment?: string;
  truncated?: number;
}

/** Any entry: the header, and whatever its type adds. */
export type Entry = Header & Record<string, unknown>;

export function isDecision(e: Entry): e is DecisionEntry & Entry {
  return e.type === "decision";
}

/** text reads a member that should be a string; anything else is the empty string. */
export function text(e: Entry, name: string): string {
  const v = e[name];
  return typeof v === "string" ? v : typeof v === "number" ? String(v) : "";
}

/** toolName is "server/name" of an entry's tool, or the empty string. */
export function toolName(e: Entry): string {
  const t = e["tool"] as ToolRef | undefined;
  if (!t || typeof t !== "object" || typeof t.name !== "string") return "";
  return t.server ? `${t.server}/${t.name}` : t.name;
}

const maxSeverity = (list: Severity[]): Severity =>
  list.reduce<Severity>((a, b) => (severities.indexOf(b) > severities.indexOf(a) ? b : a), "info");

/** severityOf is how loud an entry is, whatever its type. */
export function severityOf(e: Entry): Severity {
  if (severities.includes(e["severity"] as Severity)) return e["severity"] as Severity;
  switch (e.type) {
    case "degraded":
      return "critical";
    case "client":
      return ["unguarded", "gap", "dropped"].includes(text(e, "event")) ? "high" : "medium";
    case "containment":
      return text(e, "op") === "kill" ? "high" : "info";
    case "policy":
      return text(e, "outcome") === "rejected" ? "medium" : "info";
    case "start":
      return e["clean"] === false ? "medium" : "info";
    case "canary":
      return e["ok"] === false ? "high" : "info";
    case "refusal":
      return "low";
    case "notification":
      return text(e, "outcome") === "delivered" ? "info" : "medium";
    default:
      return maxSeverity([]);
  }
}

/** found names the classes of findings, each once. */
const found = (list: Finding[]) => `found ${[...new Set(list.map((f) => String(f.class).replaceAll("_", " ")))].join(", ")}`;

/** clientSummary says what an SDK told afterwards, or what is missing in its numbers. */
function clientSummary(e: Entry): string {
  const s = (n: string) => text(e, n);
  const why = s("reason") ? `: ${s("reason")}` : "";
  switch (s("event")) {
    case "gap":
      return `numbers ${s("first")} to ${s("last")} of client ${s("client")} never arrived`;
    case "degraded":
      return `an SDK had no decisions on ${s("count")} interactions from ${s("from")} to ${s("to")}${why}`;
    case "dropped":
      return `an SDK could not keep ${s("count")} events${why}`;
    default:
      return `an SDK: ${[s("kind"), toolName(e)].filter(Boolean).join(" ")} ${s("event")}${why}`;
  }
}

/** summary says in one line what an entry is about; texts of others stay as they are and are made visible where shown. */
export function summary(e: Entry): string {
  const s = (n: string) => text(e, n);
  switch (e.type) {
    case "decision":
      return s("message") || (Array.isArray(e["findings"]) && e["findings"].length > 0 ? found(e["findings"] as Finding[]) : "");
    case "stream":
      return s("phase") === "close"
        ? `stream ended: ${s("outcome")}${s("detail") ? `, ${s("detail")}` : ""}`
        : "stream began";
    case "refusal":
      return `${s("status")} ${s("code")}: ${s("message")}`;
    case "passthrough":
      return `${s("method")} ${s("endpoint")} passed unread`;
    case "policy":
      return s("outcome") === "rejected" ? `bundle rejected: ${s("error")}` : `bundle in force (${s("trigger")})`;
    case "containment":
      return `${s("op")} ${s("scope")}: ${s("reason")}`;
    case "alert":
      return `${s("op")}: ${s("title") || s("rule")}${s("comment") ? ` (${s("comment")})` : ""}`;
    case "notification":
      return `attempt ${s("attempt")} to ${s("receiver")} by ${s("via")}: ${s("outcome")}${s("error") ? `, ${s("error")}` : ""}`;
    case "agent":
      return `agent ${s("op")} by ${s("by")}`;
    case "operator":
      return `${s("by")}: ${s("op").replaceAll("_", " ")}`;
    case "canary":
      return `test of ${s("path")}, ${s("cell")}: ${s("got")}`;
    case "client":
      return clientSummary(e);
    case "tool":
      return `tool ${toolName(e)} ${s("op")}${s("reason") ? `: ${s("reason")}` : ""}`;
    case "degraded":
      return `the book could not be written: ${s("error")}`;
    case "start":
      return `guardbook ${s("version")} started, the run before ended ${e["clean"] === true ? "cleanly" : "uncleanly"}`;
    case "stop":
      return `stopped: ${s("reason")}`;
    case "heartbeat":
      return "heartbeat";
    default:
      return "";
  }
}
