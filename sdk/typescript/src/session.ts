import { AsyncLocalStorage } from "node:async_hooks";

/** Who an interaction belongs to, as Guard.session sets it for the code that runs inside. */
export interface Identity {
  session?: string | undefined;
  user?: string | undefined;
  parent?: string | undefined;
}

// One storage for the whole process, whichever module format asks.
const key: unique symbol = Symbol.for("guardbook.identity") as never;
const shared = globalThis as { [key]?: AsyncLocalStorage<Identity> };
shared[key] ??= new AsyncLocalStorage<Identity>();
const storage = shared[key];

/** The identity that surrounds the running code. */
export function currentIdentity(): Identity {
  return storage.getStore() ?? {};
}

/** Runs fn, and all that it starts, with an identity; what it leaves out comes from the surrounding one. */
export function withIdentity<T>(identity: Identity, fn: () => T): T {
  return storage.run({ ...currentIdentity(), ...identity }, fn);
}
