// JSON-RPC as MCP uses it, without any SDK's types: fields and methods that are not
// known here pass as they are.

export type Json = Record<string, unknown>;

/** A message of the wire. */
export type Message = Json;

/** A request that waits for its answer. */
export interface Request {
  id: unknown;
  method: string;
  params: Json;
}

export type Read =
  | ({ kind: "request" } & Request)
  | { kind: "answer"; id: unknown }
  | { kind: "notification"; method: string };

/** What kind of message one is. */
export function read(message: Message): Read {
  const method = message.method;
  const id = message.id;
  if (typeof method !== "string") return { kind: "answer", id };
  if (id === undefined) return { kind: "notification", method };
  const params = message.params;
  return { kind: "request", id, method, params: typeof params === "object" && params !== null ? (params as Json) : {} };
}

/** Whether b has the shape of a: a client that checks a schema takes it. */
export function fits(a: unknown, b: unknown): boolean {
  if (typeof a !== typeof b || Array.isArray(a) !== Array.isArray(b) || (a === null) !== (b === null)) return false;
  if (typeof a !== "object" || a === null) return true;
  const left = Object.entries(a).filter(([, v]) => v !== undefined);
  return left.every(([k, v]) => fits(v, (b as Json)[k]));
}

const prefix = "mcp-param-";
const sentinel = /^=\?base64\?(.*)\?=$/s;

/**
 * The headers of a call whose arguments were redacted. A client of 2026-07-28 repeats
 * arguments in Mcp-Param-* headers; a server refuses a call in which the two differ.
 */
export function mirror(
  headers: Readonly<Record<string, string>>,
  before: Message,
  after: Message,
): Record<string, string> {
  const swaps = new Map<string, string>();
  const walk = (a: unknown, b: unknown): void => {
    if (typeof a === "string" && typeof b === "string" && a !== b) swaps.set(a, b);
    else if (typeof a === "object" && a !== null && typeof b === "object" && b !== null) {
      for (const [k, v] of Object.entries(a)) walk(v, (b as Json)[k]);
    }
  };
  walk((before.params as Json | undefined)?.arguments, (after.params as Json | undefined)?.arguments);
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => {
      if (!name.toLowerCase().startsWith(prefix)) return [name, value];
      const coded = sentinel.exec(value);
      const plain = coded ? Buffer.from(coded[1] ?? "", "base64").toString("utf8") : value;
      const swapped = swaps.get(plain);
      return [name, swapped === undefined ? value : encoded(swapped)];
    }),
  );
}

/** A text as a header's value. */
function encoded(text: string): string {
  const safe = /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(text) && !sentinel.test(text);
  return safe ? text : `=?base64?${Buffer.from(text, "utf8").toString("base64")}?=`;
}
