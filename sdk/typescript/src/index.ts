/**
 * Guard the agent, keep the book: the TypeScript SDK of Guardbook.
 *
 * @packageDocumentation
 */

export { GuardBlocked, GuardError, GuardUnavailable } from "./errors.js";
export { Guard, type ModelContext, type Verdict } from "./guard.js";
export {
  type Action,
  type Content,
  type Context,
  type Decision,
  denies,
  type Finding,
  type Interaction,
  type Kind,
  type Part,
  type Severity,
  type Tool,
} from "./interaction.js";
export type { Identity } from "./session.js";
export type { GuardOptions } from "./settings.js";
export { registerWrapper, type Wrapper } from "./wrappers.js";
