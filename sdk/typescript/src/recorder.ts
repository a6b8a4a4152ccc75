import { randomUUID } from "node:crypto";
import type { Kind } from "./interaction.js";
import { type Orphan, Spool } from "./spool.js";
import type { Answer } from "./transport.js";
import { uuid7 } from "./uuid.js";

/** What could not be asked or told in time; see POST /v1/record. */
export interface ClientEvent {
  event: "unguarded" | "refused" | "unanswered" | "degraded" | "dropped";
  seq?: number;
  via?: string;
  kind?: Kind;
  session?: string;
  tool?: { server?: string; name: string };
  reason?: string;
  from?: string;
  to?: string;
  count?: number;
}

/** Sends one call of POST /v1/record. */
export type Send = (body: string) => Promise<Answer>;

const unreadable = "the server could not read the event";
const shortest = 500;
const longest = 10_000;

// Who has something to tell when the process ends. One listener for all of them.
const everyone = new Set<Recorder>();
let listening = false;

function listen(): void {
  if (listening) return;
  listening = true;
  process.on("beforeExit", () => {
    // Work that is begun here keeps the process for as long as it takes; when it
    // has failed, nothing is begun again.
    for (const r of everyone) if (r.pending && !r.tried) void r.lastFlush();
  });
  process.on("exit", () => {
    for (const r of everyone) r.atExit();
  });
}

/**
 * Numbers the interactions of one client, and sees that each one that got no decision
 * is told to the server: written to disk at once, sent when the server is there.
 */
export class Recorder {
  /** The id of this client. */
  readonly client: string = randomUUID();
  /** The last try at the process's end was made. */
  tried = false;
  readonly #ending: (is: boolean) => void;
  readonly #spool: Spool;
  readonly #send: Send;
  readonly #log: (line: string) => void;
  #seq = 0;
  #wait = shortest;
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<boolean> | undefined;
  #degraded: { from: string; count: number } | undefined;
  #dropped = 0;
  #dropStep = 1;
  #memory: string[] = [];
  #orphans: Orphan[] = [];
  #complained = new Set<string>();

  constructor(o: {
    data: string;
    owner: string;
    send: Send;
    log: (line: string) => void;
    /** Hears that a last try begins, and that it is over. */
    ending?: (is: boolean) => void;
    limit?: number | undefined;
  }) {
    this.#spool = new Spool(o.data, o.owner, this.client, o.limit);
    this.#send = o.send;
    this.#log = o.log;
    this.#ending = o.ending ?? (() => undefined);
    everyone.add(this);
    listen();
  }

  /** The number of the next interaction. */
  next(): number {
    return ++this.#seq;
  }

  /** Whether there is something that the server does not know yet. */
  get pending(): boolean {
    return this.#spool.pending || this.#memory.length > 0 || this.#degraded !== undefined || this.#dropped > 0;
  }

  /** Writes an event down. It is on disk when this returns. */
  note(e: ClientEvent): void {
    this.#write(e);
    this.#schedule();
  }

  /** The server was not there for an interaction. */
  away(): void {
    this.#degraded ??= { from: new Date().toISOString(), count: 0 };
    this.#degraded.count++;
    this.#schedule();
  }

  /** The server answered. */
  back(): void {
    if (!this.pending) return;
    this.#endInterval();
    this.#wait = shortest;
    void this.flush();
  }

  /** Sends what there is; true when nothing is left. */
  async flush(): Promise<boolean> {
    this.#flushing ??= this.#run().finally(() => {
      this.#flushing = undefined;
    });
    return await this.#flushing;
  }

  /** Sends what there is before the process ends. */
  async lastFlush(): Promise<void> {
    this.tried = true;
    this.#ending(true);
    try {
      await this.flush();
    } finally {
      this.#ending(false);
    }
  }

  /** Tells what processes that are gone could not. What cannot be sent now is kept for the next time. */
  async adopt(): Promise<void> {
    this.#orphans.push(...this.#spool.adopt());
    for (const orphan of this.#orphans.splice(0)) {
      let told = true;
      for (const lines of orphan.batches()) told = told && (await this.#tell(orphan.client, lines));
      if (told) orphan.remove();
      else this.#orphans.push(orphan);
    }
  }

  /** Writes what is only in memory; for the process's end. */
  atExit(): void {
    try {
      this.#endInterval();
      this.#noteDropped(true);
      this.#spool.close();
    } catch {
      // The process ends; there is no one left to tell.
    }
  }

  /** Sends what can be sent, and stops. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.lastFlush();
    clearTimeout(this.#timer);
    this.atExit();
    everyone.delete(this);
  }

  #write(e: ClientEvent): void {
    const line = JSON.stringify({
      id: uuid7(),
      ts: new Date().toISOString(),
      ...e,
      ...(e.reason !== undefined && { reason: clip(e.reason) }),
    });
    try {
      if (this.#spool.append(line)) return;
      this.#complain("full", "guardbook: the spool is full; what is left out is counted and told as such.");
    } catch (err) {
      this.#complain(
        "disk",
        `guardbook: the spool ${this.#spool.folder} cannot be written (${(err as Error).message}); up to 10000 events are kept in memory.`,
      );
      if (this.#memory.length < 10_000) {
        this.#memory.push(line);
        return;
      }
    }
    this.#dropped++;
    this.#noteDropped(false);
  }

  /** Says how many were left out: at 1, 2, 4, 8... so that a sudden end hides at most half. */
  #noteDropped(all: boolean): void {
    if (this.#dropped === 0 || (!all && this.#dropped < this.#dropStep)) return;
    const line = JSON.stringify({
      id: uuid7(),
      ts: new Date().toISOString(),
      event: "dropped",
      count: this.#dropped,
      reason: "the spool was full",
    } satisfies ClientEvent & { id: string; ts: string });
    try {
      this.#spool.append(line, true);
    } catch {
      if (!all) return; // counted on; the next try says it all
      this.#memory.push(line);
    }
    this.#dropStep = all ? 1 : this.#dropStep * 2;
    this.#dropped = 0;
  }

  #endInterval(): void {
    const d = this.#degraded;
    if (!d) return;
    this.#degraded = undefined;
    this.#write({ event: "degraded", from: d.from, to: new Date().toISOString(), count: d.count });
  }

  #schedule(): void {
    if (this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#wait = Math.min(longest, this.#wait * 2);
      void this.flush();
    }, this.#wait);
    this.#timer.unref();
  }

  async #run(): Promise<boolean> {
    while (this.pending) {
      if (this.#spool.pending) {
        const { lines, bytes } = this.#spool.batch();
        if (!(await this.#tell(this.client, lines))) break;
        this.#spool.confirm(bytes);
      } else if (this.#memory.length > 0) {
        const lines = this.#memory.slice(0, 256);
        if (!(await this.#tell(this.client, lines))) break;
        this.#memory.splice(0, lines.length);
      } else if (this.#degraded && !(await this.#tell(this.client, []))) {
        break; // the server is still away: the interval goes on
      } else {
        this.#endInterval();
        this.#noteDropped(true);
        if (!this.#spool.pending && this.#memory.length === 0) break;
      }
    }
    if (this.pending) this.#schedule();
    else this.#wait = shortest;
    return !this.pending;
  }

  /** Whether the server has taken the lines. None: whether it is there. */
  async #tell(client: string, lines: string[]): Promise<boolean> {
    let answer: Answer;
    try {
      answer = await this.#send(
        lines.length > 0 ? `{"client":${JSON.stringify(client)},"events":[${lines.join(",")}]}` : "",
      );
    } catch {
      return false;
    }
    if (answer.status === 200) return true;
    if (answer.status === 400 && lines.length > 1) {
      // One that the server cannot read must not hold up the others.
      for (const line of lines) if (!(await this.#tell(client, [line]))) return false;
      return true;
    }
    const [line] = lines;
    if (answer.status === 400 && line !== undefined && !line.includes(unreadable)) {
      const said = this.#unreadable(line, clip(answer.body));
      this.#complain("unreadable", `guardbook: the server cannot read an event, and is told so: ${line}`);
      return await this.#tell(client, [said]);
    }
    if (answer.status < 500) {
      this.#complain(
        `status ${answer.status}`,
        `guardbook: the server does not take the record of what it could not be asked (${answer.status}: ${clip(answer.body)}). It stays in ${this.#spool.folder}.`,
      );
    }
    return false;
  }

  /** What is told in the place of an event that the server cannot read. */
  #unreadable(line: string, why: string): string {
    let seq: number | undefined;
    let id = uuid7();
    try {
      const e = JSON.parse(line) as { id?: unknown; seq?: unknown };
      if (typeof e.seq === "number") seq = e.seq;
      if (typeof e.id === "string") id = e.id; // told again, it is still the same
    } catch {
      // Not written by this package.
    }
    return JSON.stringify({
      id,
      ts: new Date().toISOString(),
      event: "dropped",
      count: 1,
      reason: clip(`${unreadable}: ${why}`),
      ...(seq !== undefined && { seq }),
    } satisfies ClientEvent & { id: string; ts: string });
  }

  #complain(what: string, line: string): void {
    if (this.#complained.has(what)) return;
    this.#complained.add(what);
    this.#log(line);
  }
}

/** What others said, short enough for an entry and harmless on a terminal. */
function clip(s: string): string {
  return s
    .slice(0, 200)
    .toWellFormed()
    .replace(/\p{Cc}/gu, " ");
}
