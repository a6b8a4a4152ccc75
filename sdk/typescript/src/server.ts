import { Breaker } from "./breaker.js";
import { GuardError } from "./errors.js";
import { findBinary, startLocal } from "./local.js";
import type { Settings } from "./settings.js";
import { type Answer, Transport, TransportError } from "./transport.js";

/** The server that decides: where it is, and whether it is there. */
export class Server {
  readonly breaker = new Breaker();
  readonly #settings: Settings;
  readonly #log: (line: string) => void;
  #key = "";
  #transport: Transport | undefined;
  #starting: Promise<Transport> | undefined;
  #seen = Number.NEGATIVE_INFINITY;
  #closed = false;
  /** The process is about to end: nothing is started any more. */
  ending = false;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#log = settings.log;
  }

  /** The address and key, once known. */
  get address(): { url: string; key: string } | undefined {
    return this.#transport && { url: this.#transport.url, key: this.#key };
  }

  /** Whether this user's own server is used. */
  get local(): boolean {
    return this.#settings.url === "";
  }

  /** Finds the server; the local one is started when it does not run. */
  async connect(): Promise<Transport> {
    if (this.#closed) throw new GuardError("This Guard is closed.");
    if (this.#transport) return this.#transport;
    if (!this.local) return this.#use(this.#settings.url, this.#settings.key);
    this.#starting ??= this.#start().finally(() => {
      this.#starting = undefined;
    });
    return await this.#starting;
  }

  /** Posts to the server within the budget, and keeps the account of its failures. */
  async post(path: string, body: string, timeoutMs: number, signal?: AbortSignal): Promise<Answer> {
    try {
      const transport = await this.connect();
      const answer = await transport.post(path, body, timeoutMs, signal);
      if (answer.status >= 500) this.failed();
      else this.succeeded();
      return answer;
    } catch (err) {
      if (signal?.aborted || (err instanceof GuardError && !err.retryable)) this.breaker.dropped();
      else this.failed(err);
      throw err;
    }
  }

  /** Makes sure, within the budget, that the server can be connected to; asks only when it has been silent for a second. */
  async ready(timeoutMs: number): Promise<{ url: string; key: string }> {
    const transport = await this.connect();
    if (performance.now() - this.#seen > 1_000) {
      try {
        await transport.ready(timeoutMs);
      } catch (err) {
        this.failed(err);
        throw err;
      }
      this.succeeded();
    }
    return { url: transport.url, key: this.#key };
  }

  succeeded(): void {
    this.#seen = performance.now();
    this.breaker.succeeded();
  }

  failed(err?: unknown): void {
    this.#seen = Number.NEGATIVE_INFINITY;
    this.breaker.failed();
    // The local server may have ended: whoever asks next finds it, or starts it again.
    if (this.local && err instanceof TransportError && !err.sent) this.#renew();
  }

  /** Whether the server is there has to be asked anew. */
  doubt(): void {
    this.#seen = Number.NEGATIVE_INFINITY;
  }

  close(): void {
    this.#closed = true;
    this.#transport?.close();
  }

  #renew(): void {
    if (this.#starting || this.#closed || this.ending) return;
    this.#starting = this.#start().finally(() => {
      this.#starting = undefined;
    });
    this.#starting.then(
      () => this.breaker.succeeded(),
      () => undefined, // told by the calls that fail
    );
  }

  async #start(): Promise<Transport> {
    const found = await startLocal(findBinary(this.#settings.binary), this.#settings.data, this.#settings.agent);
    if (found.started && found.dashboard) {
      this.#log(
        `guardbook: a local server runs at ${found.url} and keeps its book in ${found.data}. Dashboard: ${found.dashboard}`,
      );
    }
    return this.#use(found.url, found.key);
  }

  #use(url: string, key: string): Transport {
    if (this.#transport?.url === url && this.#key === key) return this.#transport;
    this.#transport?.close();
    this.#key = key;
    this.#transport = new Transport(url, key);
    return this.#transport;
  }
}
