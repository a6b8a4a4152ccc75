import type { Server } from "./server.js";
import { type Answer, silent, TransportError, within } from "./transport.js";

const alone = 8; // questions that go out each by itself
const most = 256; // interactions of one batch, by the API
const bytes = 1 << 20;

/** A question that waits for its turn. */
interface Waiting {
  text: string;
  deadline: number;
  resolve(answer: Answer): void;
  reject(err: unknown): void;
}

/**
 * The questions of one Guard on their way to the server. A few go out each by itself,
 * which is quickest for them; more than that go together, which is quickest for all: a
 * burst of a thousand would otherwise spend the budget waiting for its turn.
 */
export class Line {
  readonly #server: Server;
  #out = 0;
  #queue: Waiting[] = [];

  constructor(server: Server) {
    this.#server = server;
  }

  /** Asks for one decision, within a time from now. */
  async ask(text: string, timeoutMs: number, signal?: AbortSignal): Promise<Answer> {
    if (this.#out < alone) return await this.#send("/v1/inspect", text, timeoutMs, signal);
    return await new Promise<Answer>((resolve, reject) => {
      const end = () => {
        settle();
        signal?.removeEventListener("abort", abort);
      };
      const waiting: Waiting = {
        text,
        deadline: performance.now() + timeoutMs,
        resolve: (answer) => {
          end();
          resolve(answer);
        },
        reject: (err) => {
          end();
          reject(err);
        },
      };
      const leave = (err: unknown) => {
        this.#queue = this.#queue.filter((w) => w !== waiting);
        waiting.reject(err);
      };
      const abort = () => leave(signal?.reason);
      const settle = within(timeoutMs, () => {
        this.#server.failed();
        leave(new TransportError(silent(timeoutMs), true));
      });
      signal?.addEventListener("abort", abort, { once: true });
      this.#queue.push(waiting);
    });
  }

  async #send(path: string, body: string, timeoutMs: number, signal?: AbortSignal): Promise<Answer> {
    this.#out++;
    try {
      return await this.#server.post(path, body, timeoutMs, signal);
    } finally {
      this.#out--;
      this.#next();
    }
  }

  /** Sends what waits, together. */
  #next(): void {
    while (this.#queue.length > 0 && this.#out < alone) {
      let size = 0;
      let n = 0;
      for (; n < Math.min(this.#queue.length, most); n++) {
        size += this.#queue[n]?.text.length ?? 0;
        if (n > 0 && size > bytes) break;
      }
      void this.#together(this.#queue.splice(0, n));
    }
  }

  async #together(asked: Waiting[]): Promise<void> {
    const left = () => Math.max(1, Math.max(...asked.map((w) => w.deadline)) - performance.now());
    const one = async (w: Waiting) => {
      try {
        w.resolve(await this.#send("/v1/inspect", w.text, left()));
      } catch (err) {
        w.reject(err);
      }
    };
    const [first] = asked;
    if (asked.length === 1 && first) return await one(first);
    try {
      const body = `{"interactions":[${asked.map((w) => w.text).join(",")}]}`;
      const answer = await this.#send("/v1/inspect/batch", body, left());
      const decisions = answer.status === 200 ? list(answer.body, asked.length) : undefined;
      if (decisions) {
        asked.forEach((w, i) => void w.resolve({ status: 200, body: JSON.stringify(decisions[i]) }));
      } else if (answer.status >= 400 && answer.status < 500) {
        // One of them is refused, and the server does not take the others with it.
        for (const w of asked) await one(w);
      } else {
        for (const w of asked) w.resolve(answer);
      }
    } catch (err) {
      for (const w of asked) w.reject(err);
    }
  }
}

function list(body: string, n: number): unknown[] | undefined {
  try {
    const { decisions } = JSON.parse(body) as { decisions?: unknown };
    return Array.isArray(decisions) && decisions.length === n ? decisions : undefined;
  } catch {
    return undefined;
  }
}
