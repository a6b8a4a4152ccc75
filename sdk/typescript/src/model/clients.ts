import { GuardBlocked, GuardError } from "../errors.js";
import { blockOf, type FetchLike, guardedFetch, type ModelGuard, unavailableOf } from "./fetch.js";
import { type Provider, route, unveil, veil } from "./route.js";
import type { Block } from "./stream.js";

// What the clients of openai (4 to 7) and @anthropic-ai/sdk have in common, as far as
// it is used here.
interface Client {
  baseURL: string;
  fetch?: FetchLike;
  _options?: Record<string, unknown>;
  makeStatusError: (status: number, error: unknown, message: string | undefined, headers: unknown) => Error;
  withOptions?: (options: Record<string, unknown>) => Client;
  constructor: ErrorHome & (new (options: Record<string, unknown>) => Client);
  // Azure's
  apiVersion?: string;
  deploymentName?: string;
  _azureADTokenProvider?: () => Promise<string>;
}

type ErrorClass = new (message: string) => Error;

interface ErrorHome {
  name: string;
  OpenAIError?: ErrorClass;
  AnthropicError?: ErrorClass;
}

/** A guarded one for a client of a model provider; undefined for anything else. */
export function wrapClient<T extends object>(value: T, guard: ModelGuard): T | undefined {
  const provider = recognise(value);
  if (!provider) return undefined;
  return guarded(value as unknown as Client, provider, guard) as unknown as T;
}

/** Tells a client by its shape: its package is not imported, and may be there in several versions. */
function recognise(value: unknown): Provider | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const c = value as Partial<Client> & { chat?: { completions?: unknown }; messages?: unknown };
  if (typeof c.makeStatusError !== "function" || typeof c.baseURL !== "string") return undefined;
  const names = ancestors(value);
  const elsewhere = names.find((n) => /Bedrock|Vertex|Foundry|AWS|Aws/.test(n));
  if (elsewhere) {
    throw new TypeError(
      `${elsewhere} signs its requests for another address than Guardbook's, so it cannot be wrapped. ` +
        "Use Anthropic or OpenAI with a base URL, or guard its texts and tools with guard.text and guard.toolCall.",
    );
  }
  const home = c.constructor;
  if (home?.OpenAIError && c.chat?.completions)
    return names.includes("AzureOpenAI") || "deploymentName" in c ? "azure" : "openai";
  if (home?.AnthropicError && c.messages) return "anthropic";
  return undefined;
}

function ancestors(value: object): string[] {
  const names: string[] = [];
  for (
    let p = Object.getPrototypeOf(value) as object | null;
    p && p !== Object.prototype;
    p = Object.getPrototypeOf(p) as object | null
  ) {
    names.push(p.constructor.name);
  }
  return names;
}

/** A new client with the same options, whose requests and errors are the guard's. The given one stays as it is. */
function guarded(client: Client, provider: Provider, guard: ModelGuard): Client {
  if (!guardable(client.baseURL, provider)) {
    throw new TypeError(
      `Guardbook cannot guard a client whose base URL is ${JSON.stringify(client.baseURL)}: it must be the address of an API (OpenAI's and what is compatible), Anthropic's or Azure's.`,
    );
  }
  const theirs = errors(client);
  const error = (block: Block) => theirs(new GuardBlocked(block));
  const direct = client.fetch?.bind(undefined);
  const base = unveil(client.baseURL).url;
  const fetch = guardedFetch(guard, { onBlock: "response", direct, provider, base, error });
  const options: Record<string, unknown> = { fetch, baseURL: veil(client.baseURL) };
  if (provider === "azure") {
    // Not all versions carry these over by themselves.
    Object.assign(options, { apiVersion: client.apiVersion, deployment: client.deploymentName });
    if (client._azureADTokenProvider)
      Object.assign(options, { azureADTokenProvider: client._azureADTokenProvider, apiKey: undefined });
  }
  const made = client.withOptions ? client.withOptions(options) : renewed(client, options, provider);
  made.baseURL = veil(client.baseURL);

  const statusError = made.makeStatusError;
  const own = (name: string, value: unknown) =>
    Object.defineProperty(made, name, { value, configurable: true, writable: true });
  own(
    "makeStatusError",
    function (this: Client, status: number, body: unknown, message: string | undefined, headers: unknown) {
      const block = blockOf(body);
      if (block) return error(block);
      const unavailable = unavailableOf(body);
      return unavailable ? theirs(unavailable) : statusError.call(this, status, body, message, headers);
    },
  );
  if (client.withOptions) {
    own("withOptions", (more: Record<string, unknown>) =>
      guarded(client.withOptions?.(more) ?? client, provider, guard),
    );
  }
  return made;
}

/** Whether calls below a base URL have a way through the server. */
function guardable(base: string, provider: Provider): boolean {
  const call = { openai: "/chat/completions", azure: "/deployments/d/chat/completions", anthropic: "/v1/messages" };
  const { url } = unveil(base.replace(/\/+$/, ""));
  return route(url + call[provider], provider, url) !== undefined;
}

/** openai 4 has no withOptions. */
function renewed(client: Client, options: Record<string, unknown>, provider: Provider): Client {
  if (!client._options) throw new GuardError("This client does not tell its options: give it guard.fetch instead.");
  const all: Record<string, unknown> = { ...client._options, ...options };
  if (provider === "azure" && all.azureADTokenProvider) delete all.apiKey;
  return new client.constructor(all);
}

/**
 * Makes an error of Guardbook's that is also one of the client's own package: its
 * stream helpers put any other error into one of theirs.
 */
function errors(client: Client): (error: GuardError) => Error {
  const Base = client.constructor.OpenAIError ?? client.constructor.AnthropicError;
  if (!Base) return (error) => error;
  return (error) => {
    const theirs = new Base(error.message);
    for (const name of Reflect.ownKeys(error)) {
      Object.defineProperty(theirs, name, Object.getOwnPropertyDescriptor(error, name) ?? {});
    }
    return theirs;
  };
}
