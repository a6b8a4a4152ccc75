import type { Action, Decision, Finding, Severity } from "./interaction.js";

// The package exists twice in a process that both imports and requires it, and a
// GuardBlocked that comes out of OpenAI's client is also an OpenAIError (see
// model/clients.ts). So instanceof goes by what an error says it is.
const brand: unique symbol = Symbol.for("guardbook.error") as never;

function is(value: unknown, ...names: string[]): boolean {
  return typeof value === "object" && value !== null && names.includes((value as { [brand]?: string })[brand] ?? "");
}

/** Any error of Guardbook's. */
export class GuardError extends Error {
  /** Whether the same call may succeed later. */
  readonly retryable: boolean = false;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "GuardError";
    Object.defineProperty(this, brand, { value: "GuardError", configurable: true });
  }

  /** Goes by what an error says it is: see {@link GuardError}. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return is(value, "GuardError", "GuardBlocked", "GuardUnavailable");
  }
}

/** Policy does not allow this. Do not retry: the decision stays the same. */
export class GuardBlocked extends GuardError {
  /** `block`, or `hold`: someone has to approve it first. */
  readonly decision: Action;
  /** The id of the entry in the book. */
  readonly entry: string;
  /** The rule of the policy that decided. */
  readonly rule: string;
  readonly severity: Severity;
  readonly findings: readonly Finding[];
  /** As an HTTP error has it, so that clients which look at it do not retry. */
  readonly status = 403;

  constructor(d: Pick<Decision, "decision" | "entry" | "rule" | "severity" | "message"> & Partial<Decision>) {
    super(d.message || `Blocked by policy (rule ${d.rule || "unknown"}). Choose another approach; do not retry.`);
    this.name = "GuardBlocked";
    this.decision = d.decision;
    this.entry = d.entry;
    this.rule = d.rule;
    this.severity = d.severity;
    this.findings = d.findings ?? [];
    Object.defineProperty(this, brand, { value: "GuardBlocked", configurable: true });
  }

  /** Goes by what an error says it is: see {@link GuardError}. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return is(value, "GuardBlocked");
  }
}

/** No decision could be had, and the failure mode is to refuse without one. */
export class GuardUnavailable extends GuardError {
  override readonly retryable = true;
  readonly status = 503;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "GuardUnavailable";
    Object.defineProperty(this, brand, { value: "GuardUnavailable", configurable: true });
  }

  /** Goes by what an error says it is: see {@link GuardError}. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return is(value, "GuardUnavailable");
  }
}
