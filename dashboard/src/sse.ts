// Server-sent events over fetch. EventSource hides the status of a refused request
// and cannot set Last-Event-ID on a new connection; a book that must show no gap
// needs both.

export interface Message {
  id: string;
  event: string;
  data: string;
}

/** Parser reads the event stream format (WHATWG HTML 9.2.6) from pieces of text. */
export class Parser {
  private buffer = "";
  private data: string[] = [];
  private event = "";
  private id = "";

  constructor(private readonly emit: (m: Message) => void) {}

  push(chunk: string) {
    this.buffer += chunk;
    for (;;) {
      const m = /\r\n|\n|\r/.exec(this.buffer);
      // A CR at the very end may be half of a CRLF: wait for what follows.
      if (!m || (m[0] === "\r" && m.index === this.buffer.length - 1)) return;
      const line = this.buffer.slice(0, m.index);
      this.buffer = this.buffer.slice(m.index + m[0].length);
      this.line(line);
    }
  }

  private line(line: string) {
    if (line === "") {
      if (this.data.length > 0) this.emit({ id: this.id, event: this.event || "message", data: this.data.join("\n") });
      this.data = [];
      this.event = "";
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.data.push(value);
    else if (name === "event") this.event = value;
    else if (name === "id" && !value.includes("\0")) this.id = value;
  }
}

export type Connection = "connecting" | "live" | "waiting" | "refused";

export interface Options {
  /** Called anew for each connection: filters are in it. */
  url: string;
  /** Where to go on; undefined: from now. */
  lastEventId: () => string | undefined;
  onMessage: (m: Message) => void;
  onState: (s: Connection, detail?: string) => void;
  signal: AbortSignal;
  fetch?: typeof fetch;
  /** Milliseconds to wait after the n-th failure in a row. */
  backoff?: (n: number) => number;
  /** A connection that is silent for so many milliseconds is taken for dead. */
  silence?: number;
}

const defaultBackoff = (n: number) => Math.min(500 * 2 ** Math.min(n, 6), 15_000) * (0.75 + Math.random() / 2);

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const t = setTimeout(done, ms);
    signal.addEventListener("abort", () => (clearTimeout(t), done()), { once: true });
  });
}

/** follow keeps one stream open until the signal aborts, and connects again whenever it ends. A 401 or 403 ends it. */
export async function follow(o: Options): Promise<void> {
  const backoff = o.backoff ?? defaultBackoff;
  let failures = 0;
  while (!o.signal.aborted) {
    o.onState(failures === 0 ? "connecting" : "waiting");
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    o.signal.addEventListener("abort", stop, { once: true });
    let timer: ReturnType<typeof setTimeout> | undefined;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(stop, o.silence ?? 75_000);
    };
    let why = "the connection ended";
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      const last = o.lastEventId();
      if (last !== undefined) headers["Last-Event-ID"] = last;
      alive();
      const r = await (o.fetch ?? fetch)(o.url, { headers, cache: "no-store", credentials: "same-origin", signal: attempt.signal });
      if (r.status === 401 || r.status === 403) {
        o.onState("refused", `the server answered ${r.status}`);
        return;
      }
      if (!r.ok || !r.body) throw new Error(`the server answered ${r.status}`);
      o.onState("live");
      const parser = new Parser(o.onMessage);
      const decoder = new TextDecoder();
      const reader = r.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        failures = 0;
        alive();
        parser.push(decoder.decode(value, { stream: true }));
      }
    } catch (e) {
      why = e instanceof Error && e.name !== "AbortError" ? e.message : "no answer from the server";
    } finally {
      clearTimeout(timer);
      o.signal.removeEventListener("abort", stop);
      attempt.abort();
    }
    if (o.signal.aborted) return;
    o.onState("waiting", why);
    await pause(backoff(failures++), o.signal);
  }
}
