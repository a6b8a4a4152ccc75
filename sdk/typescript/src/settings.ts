import { homedir } from "node:os";
import { join } from "node:path";
import { GuardError } from "./errors.js";

/** How to make a {@link Guard}. What is left out comes from the environment, then from the default. */
export interface GuardOptions {
  /** The agent's name. Needed when no server is named; with one, the key says who it is. `GUARDBOOK_AGENT`. */
  agent?: string | undefined;
  /** The server's address. Without one, this user's own local server is used, and started when there is none. `GUARDBOOK_URL`. */
  url?: string | undefined;
  /** The agent's key (`gbk_...`). `GUARDBOOK_KEY`. */
  key?: string | undefined;
  /** What becomes of texts when no decision can be had. Default `allow`. `GUARDBOOK_ON_UNAVAILABLE`. */
  onUnavailable?: "allow" | "block" | undefined;
  /** What becomes of tool calls when no decision can be had. Default `block`. `GUARDBOOK_ON_UNAVAILABLE_TOOLS`. */
  onUnavailableTools?: "allow" | "block" | undefined;
  /** How long a decision may take, in milliseconds. Default 250. `GUARDBOOK_BUDGET`, in seconds. */
  budgetMs?: number | undefined;
  /** The session of interactions that have none of their own. Default: one made up for this Guard. `GUARDBOOK_SESSION`. */
  session?: string | undefined;
  /** Whom the agent works for, where nothing else says so. */
  user?: string | undefined;
  /** The agent that delegated to this one, where nothing else says so. */
  parent?: string | undefined;
  /**
   * What a wrapped model client does with a block: `raise` throws {@link GuardBlocked};
   * `respond` gives the refusal as the model's answer. Default `raise`. `GUARDBOOK_BLOCK`.
   */
  block?: "raise" | "respond" | undefined;
  /** The folder of the local server and of the spool. `GUARDBOOK_DATA`. */
  data?: string | undefined;
  /** The `guardbook` binary. Default: the package's own, then the one on the PATH. `GUARDBOOK_BINARY`. */
  binary?: string | undefined;
  /** Where notices go. Default: lines on stderr. */
  log?: ((line: string) => void) | undefined;
}

/** Every setting, found and checked. */
export interface Settings {
  agent: string;
  url: string;
  key: string;
  onUnavailable: "allow" | "block";
  onUnavailableTools: "allow" | "block";
  budgetMs: number;
  session: string;
  user: string | undefined;
  parent: string | undefined;
  block: "raise" | "respond";
  data: string;
  binary: string;
  log: (line: string) => void;
}

type Environment = Readonly<Record<string, string | undefined>>;

const members = [
  "agent", "url", "key", "onUnavailable", "onUnavailableTools", "budgetMs", "session", "user", "parent", "block", "data",
  "binary", "log",
] as const; // biome-ignore format: a list

/** Finds every setting and checks it. */
export function load(options: GuardOptions = {}, environment: Environment = process.env): Settings {
  if (typeof options !== "object" || options === null) {
    throw new TypeError('Guard takes an object: new Guard({ agent: "billing-bot" }).');
  }
  for (const name of Object.keys(options)) {
    if (!(members as readonly string[]).includes(name)) {
      throw new TypeError(`Guard has no option "${name}". There are: ${members.join(", ")}.`);
    }
  }
  const pick = (name: keyof GuardOptions, variable: string): { value: string; source: string } => {
    const given = options[name];
    if (given === undefined) return { value: environment[variable] ?? "", source: variable };
    if (typeof given !== "string") throw new TypeError(`${name} must be a string, not ${typeof given}.`);
    return { value: given, source: name };
  };
  const choose = <T extends string>(name: keyof GuardOptions, variable: string, allowed: readonly [T, T]): T => {
    const { value, source } = pick(name, variable);
    if (value === "") return allowed[0];
    const found = allowed.find((a) => a === value);
    if (!found) throw new TypeError(`${source} must be "${allowed.join('" or "')}", not ${JSON.stringify(value)}.`);
    return found;
  };
  const name = (which: "session" | "user" | "parent" | "agent", variable: string): string => {
    const { value, source } = pick(which, variable);
    if (value !== "") checkName(source, value);
    return value;
  };

  const agent = name("agent", "GUARDBOOK_AGENT");
  const address = pick("url", "GUARDBOOK_URL");
  const url = address.value && checkURL(address.value, address.source);
  const { value: key, source: keySource } = pick("key", "GUARDBOOK_KEY");
  if (key.startsWith("gbo_")) {
    throw new TypeError(`${keySource} is an operator's token; an agent needs an agent's key (gbk_...).`);
  }
  if (key && !/^[\x21-\x7e]+$/.test(key)) {
    throw new TypeError(`${keySource} is no agent's key: \`guardbook agents create NAME\` prints one (gbk_...).`);
  }
  if (url && !key) {
    throw new GuardError(
      `${address.source} names a server, but there is no key for it: set GUARDBOOK_KEY to what \`guardbook agents create NAME\` prints.`,
    );
  }
  if (!url && !agent) {
    throw new GuardError('Say the agent\'s name: new Guard({ agent: "billing-bot" }), or set GUARDBOOK_AGENT.');
  }
  return {
    agent,
    url,
    key: url ? key : "",
    onUnavailable: choose("onUnavailable", "GUARDBOOK_ON_UNAVAILABLE", ["allow", "block"]),
    onUnavailableTools: choose("onUnavailableTools", "GUARDBOOK_ON_UNAVAILABLE_TOOLS", ["block", "allow"]),
    budgetMs: budget(options.budgetMs, environment),
    session: name("session", "GUARDBOOK_SESSION"),
    user: name("user", "GUARDBOOK_USER") || undefined,
    parent: name("parent", "GUARDBOOK_PARENT") || undefined,
    block: choose("block", "GUARDBOOK_BLOCK", ["raise", "respond"]),
    data: pick("data", "GUARDBOOK_DATA").value || dataFolder(environment),
    binary: pick("binary", "GUARDBOOK_BINARY").value,
    log: options.log ?? ((line) => void process.stderr.write(`${line}\n`)),
  };
}

/** Refuses a name that could not stand in a header and in an entry. */
export function checkName(what: string, value: string): string {
  if (typeof value !== "string") throw new TypeError(`${what} must be a string, not ${typeof value}.`);
  if (!nameable(value)) throw new TypeError(`${what} must be printable text of 1 to 256 bytes.`);
  return value;
}

/** Whether a text can stand in a header and in an entry as the name of something. */
export function nameable(value: string): boolean {
  const bytes = Buffer.byteLength(value);
  return bytes > 0 && bytes <= 256 && value.isWellFormed() && !/[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u.test(value);
}

function checkURL(value: string, source: string): string {
  const bad = `${source} must look like http://127.0.0.1:8787, not ${JSON.stringify(value)}.`;
  let u: URL;
  try {
    u = new URL(value);
  } catch {
    throw new TypeError(bad);
  }
  if (u.protocol !== "http:" && u.protocol !== "https:") throw new TypeError(bad);
  if (u.username || u.password || u.search || u.hash) {
    throw new TypeError(`${source} must be an address without user, query and fragment.`);
  }
  return u.href.replace(/\/+$/, "");
}

function budget(given: number | undefined, environment: Environment): number {
  const fromEnvironment = environment.GUARDBOOK_BUDGET;
  if (given === undefined && !fromEnvironment) return 250;
  const ms = given ?? Number(fromEnvironment) * 1000;
  if (typeof ms === "number" && ms >= 1 && ms <= 60_000) return ms;
  if (given !== undefined)
    throw new TypeError(`budgetMs must be milliseconds between 1 and 60000, not ${String(given)}.`);
  throw new TypeError(`GUARDBOOK_BUDGET must be seconds between 0.001 and 60, not ${JSON.stringify(fromEnvironment)}.`);
}

/** The folder of this user's local server, by the same rule as the server's own. */
export function dataFolder(environment: Environment = process.env, platform: string = process.platform): string {
  if (environment.GUARDBOOK_DATA) return environment.GUARDBOOK_DATA;
  if (platform === "darwin") return join(homedir(), "Library", "Application Support", "guardbook");
  if (platform === "win32") return join(environment.LOCALAPPDATA || join(homedir(), "AppData", "Local"), "guardbook");
  return join(environment.XDG_DATA_HOME || join(homedir(), ".local", "share"), "guardbook");
}
