// What guardbook/langchain uses of LangChain. Its own types need LangChain installed,
// which it is where that module is imported, and not where this package is built.
declare module "langchain" {
  export function createMiddleware(config: object): object;
  export class ToolMessage {
    constructor(fields: object);
    static isInstance?(value: unknown): boolean;
  }
  export class AIMessage {
    constructor(fields: object);
  }
}

declare module "@langchain/core/runnables" {
  export class RunnableBinding {
    constructor(fields: { bound: object; config: object; kwargs: object });
  }
}

declare module "@langchain/core/singletons" {
  export const AsyncLocalStorageProviderSingleton: {
    getRunnableConfig(): { configurable?: { thread_id?: unknown } } | undefined;
  };
}
