import * as http from "node:http";
import * as https from "node:https";

/** An answer of the server's. */
export interface Answer {
  status: number;
  body: string;
}

/** The server could not be asked, or did not answer. */
export class TransportError extends Error {
  /** Whether the request may have reached the server. */
  readonly sent: boolean;

  constructor(message: string, sent: boolean, options?: ErrorOptions) {
    super(message, options);
    this.sent = sent;
  }
}

const limit = 64 << 20;

/**
 * Kept connections to one server. node:http, not fetch: a decision over loopback takes
 * little more than half the time (bench/sdk/typescript).
 */
export class Transport {
  readonly url: string;
  readonly #key: string;
  readonly #agent: http.Agent;
  readonly #base: URL;

  constructor(url: string, key: string) {
    this.url = url;
    this.#key = key;
    this.#base = new URL(url);
    const options = { keepAlive: true, maxSockets: 64, maxFreeSockets: 16, scheduling: "lifo" as const };
    this.#agent = this.#base.protocol === "https:" ? new https.Agent(options) : new http.Agent(options);
  }

  /** Posts JSON, within a time. A kept connection that the server has closed is replaced once. */
  async post(path: string, body: string, timeoutMs: number, signal?: AbortSignal): Promise<Answer> {
    const until = performance.now() + timeoutMs;
    try {
      return await this.#once("POST", path, body, timeoutMs, signal);
    } catch (err) {
      if (!(err instanceof StaleConnection)) throw err;
      return await this.#once("POST", path, body, Math.max(1, until - performance.now()), signal);
    }
  }

  /** Whether the server answers. */
  async ready(timeoutMs: number): Promise<void> {
    const until = performance.now() + timeoutMs;
    try {
      await this.#once("GET", "/healthz", "", timeoutMs);
    } catch (err) {
      if (!(err instanceof StaleConnection)) throw err;
      await this.#once("GET", "/healthz", "", Math.max(1, until - performance.now()));
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  #once(method: string, path: string, body: string, timeoutMs: number, signal?: AbortSignal): Promise<Answer> {
    return new Promise((resolve, reject) => {
      let written = false;
      const headers: http.OutgoingHttpHeaders = { "x-guardbook-key": this.#key };
      if (method === "POST") {
        headers["content-type"] = "application/json";
        headers["content-length"] = Buffer.byteLength(body);
      }
      const request = (this.#base.protocol === "https:" ? https : http).request({
        agent: this.#agent,
        method,
        hostname: this.#base.hostname.replace(/^\[(.*)\]$/, "$1"),
        port: this.#base.port,
        path: this.#base.pathname.replace(/\/+$/, "") + path,
        headers,
      });
      const abort = () => request.destroy(signal?.reason);
      const settle = within(timeoutMs, () => {
        request.destroy(new TransportError(silent(timeoutMs), written));
      });
      const end = () => {
        settle();
        signal?.removeEventListener("abort", abort);
      };
      const fail = (err: Error & { code?: string }) => {
        end();
        if (signal?.aborted) return reject(signal.reason);
        if (err instanceof TransportError) return reject(err);
        const why = err.code === "ECONNREFUSED" ? "connection refused" : err.message;
        // The server closed a kept connection before this request: it was not read.
        if (request.reusedSocket && (err.code === "ECONNRESET" || err.code === "EPIPE")) {
          return reject(new StaleConnection(why, written, { cause: err }));
        }
        reject(new TransportError(why, written, { cause: err }));
      };
      request.on("error", fail);
      request.on("finish", () => {
        written = true;
      });
      request.on("response", (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on("data", (chunk: Buffer) => {
          size += chunk.length;
          if (size > limit) request.destroy(new TransportError("the answer is larger than 64 MiB", true));
          chunks.push(chunk);
        });
        response.on("error", fail);
        response.on("end", () => {
          end();
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") });
        });
      });
      if (signal?.aborted) return abort();
      signal?.addEventListener("abort", abort, { once: true });
      request.end(body);
    });
  }
}

/** What is said of a server that gave no answer. */
export function silent(timeoutMs: number): string {
  return `no answer within ${Math.round(timeoutMs)} ms`;
}

/**
 * Calls expired when a time has passed, unless the returned function is called before.
 * While this process computes, nothing is read: that time is not the server's, and is
 * given back once.
 */
export function within(timeoutMs: number, expired: () => void): () => void {
  const due = performance.now() + timeoutMs;
  let given = false;
  const fire = () => {
    const late = performance.now() - due;
    if (late <= 10 || given) return expired();
    given = true;
    timer = setTimeout(fire, Math.min(late, timeoutMs));
  };
  let timer = setTimeout(fire, timeoutMs);
  return () => clearTimeout(timer);
}

class StaleConnection extends TransportError {}
