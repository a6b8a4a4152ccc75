import { createHash } from "node:crypto";
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";

/** How many bytes of events are kept while the server is away. */
export const spoolLimit = 64 << 20;

const batchLines = 256;
const batchBytes = 512 << 10;

/**
 * Lines on disk that the server has not confirmed yet: one file for each client, in a
 * folder for each agent of each server. A line is synced before append returns, so
 * what ends the process cannot end the record.
 *
 * The file's name says which process owns it: CLIENT.HOST.PID-START.jsonl. When that
 * process is gone, another one takes the file over by renaming it.
 */
export class Spool {
  readonly folder: string;
  readonly client: string;
  readonly #limit: number;
  readonly #path: string;
  #fd: number | undefined;
  #size = 0;
  #sent = 0;

  /** `owner` is the server and the agent: only their own later processes may tell what is in here. */
  constructor(data: string, owner: string, client: string, limit = spoolLimit) {
    this.client = client;
    this.#limit = limit;
    const digest = createHash("sha256").update(owner).digest("hex").slice(0, 16);
    this.folder = join(data, "spool", "typescript", digest);
    this.#path = join(this.folder, `${client}.${self()}.jsonl`);
  }

  /** Whether there is something to send. */
  get pending(): boolean {
    return this.#sent < this.#size;
  }

  /** Writes a line and syncs it; false when the spool is full. `beyond` lets the line that says so in. */
  append(line: string, beyond = false): boolean {
    const bytes = Buffer.from(`${line}\n`);
    const fd = this.#open();
    if (!beyond && this.#size + bytes.length > this.#limit) return false;
    let done = 0;
    while (done < bytes.length) done += writeSync(fd, bytes, done);
    fsyncSync(fd);
    this.#size += bytes.length;
    return true;
  }

  /** The next lines to send. Confirm with {@link confirm}. */
  batch(): { lines: string[]; bytes: number } {
    if (this.#fd === undefined || !this.pending) return { lines: [], bytes: 0 };
    const room = Buffer.alloc(Math.min(batchBytes, this.#size - this.#sent));
    const n = readSync(this.#fd, room, 0, room.length, this.#sent);
    return cut(room.subarray(0, n));
  }

  /** The server has these bytes. */
  confirm(bytes: number): void {
    this.#sent += bytes;
    if (this.#fd === undefined || this.pending) return;
    ftruncateSync(this.#fd, 0);
    this.#sent = 0;
    this.#size = 0;
  }

  /** Lets go of the file, and removes it when nothing is left in it. */
  close(): void {
    if (this.#fd === undefined) return;
    const empty = !this.pending;
    closeSync(this.#fd);
    this.#fd = undefined;
    if (empty) quietly(() => unlinkSync(this.#path));
  }

  /** Takes over the files of processes that are gone. */
  adopt(): Orphan[] {
    const found: Orphan[] = [];
    let names: string[] = [];
    quietly(() => {
      names = readdirSync(this.folder);
    });
    for (const name of names) {
      const m = /^([0-9a-f-]{36})\.([0-9a-f]{8})\.(\d+-\d+)\.jsonl$/.exec(name);
      if (!m?.[1] || !m[2] || !m[3] || m[1] === this.client) continue;
      const path = join(this.folder, name);
      if (m[2] === host() ? alive(m[3]) : !old(path)) continue;
      const mine = join(this.folder, `${m[1]}.${self()}.jsonl`);
      if (mine === path) continue;
      try {
        renameSync(path, mine); // one of those who try wins
        found.push(new Orphan(mine, m[1]));
      } catch {
        // Another process was quicker.
      }
    }
    return found;
  }

  #open(): number {
    if (this.#fd !== undefined) {
      // Someone who took this process for dead has the old file, and sends it.
      let there = true;
      try {
        there = statSync(this.#path).ino === fstatSync(this.#fd).ino;
      } catch {
        there = false;
      }
      if (there) return this.#fd;
      closeSync(this.#fd);
      this.#fd = undefined;
    }
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    this.#fd = openSync(this.#path, "a+", 0o600);
    this.#size = fstatSync(this.#fd).size;
    this.#sent = 0;
    return this.#fd;
  }
}

/** The file of a process that is gone. */
export class Orphan {
  readonly client: string;
  readonly #path: string;

  constructor(path: string, client: string) {
    this.#path = path;
    this.client = client;
  }

  /** Its lines, in pieces that can be sent. A half line at the end was never promised to anyone. */
  *batches(): Generator<string[]> {
    let rest = readFileSync(this.#path);
    while (rest.length > 0) {
      const { lines, bytes } = cut(rest.subarray(0, batchBytes));
      if (bytes === 0) return;
      yield lines;
      rest = rest.subarray(bytes);
    }
  }

  /** Everything in it is told. */
  remove(): void {
    quietly(() => unlinkSync(this.#path));
  }
}

function cut(b: Buffer): { lines: string[]; bytes: number } {
  const lines: string[] = [];
  let bytes = 0;
  while (lines.length < batchLines) {
    const end = b.indexOf(10, bytes);
    if (end < 0) break;
    const line = b.toString("utf8", bytes, end);
    if (line) lines.push(line);
    bytes = end + 1;
  }
  return { lines, bytes };
}

function host(): string {
  return createHash("sha256").update(hostname()).digest("hex").slice(0, 8);
}

function self(): string {
  return `${host()}.${process.pid}-${startTime(process.pid)}`;
}

/** Process numbers are used again: on Linux, the time of its start tells two apart. */
function startTime(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "0";
  } catch {
    return "0";
  }
}

function alive(owner: string): boolean {
  const [pid, start] = owner.split("-");
  try {
    process.kill(Number(pid), 0);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  const now = startTime(Number(pid));
  return now === "0" || start === "0" || now === start;
}

/** Nothing is known about processes of another host; a file that rests is without an owner. */
function old(path: string): boolean {
  try {
    return Date.now() - statSync(path).mtimeMs > 10 * 60_000;
  } catch {
    return false;
  }
}

function quietly(fn: () => void): void {
  try {
    fn();
  } catch {
    // The file, or the folder, is not there: so it is as wanted.
  }
}
