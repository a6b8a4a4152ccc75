// Times are stored in UTC and shown in the reader's own time; UTC is in the title.

const pad = (n: number, w = 2) => String(n).padStart(w, "0");

export function parseTime(s: string | undefined): Date | undefined {
  if (!s) return undefined;
  const d = new Date(s);
  return Number.isNaN(d.getTime()) ? undefined : d;
}

export const day = (d: Date) => `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}`;

/** clock is 15:04:05.000 in local time, with the day in front when it is not today. */
export function clock(d: Date, now = new Date()): string {
  const t = `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}.${pad(d.getMilliseconds(), 3)}`;
  return day(d) === day(now) ? t : `${day(d)} ${t}`;
}

/** full is the local date and time to the second with its offset from UTC. */
export function full(d: Date): string {
  const off = -d.getTimezoneOffset();
  const sign = off < 0 ? "\u2212" : "+";
  return `${day(d)} ${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())} UTC${sign}${pad(Math.floor(Math.abs(off) / 60))}:${pad(Math.abs(off) % 60)}`;
}

/** ago is a rough, short age: "12 s", "5 min", "3 h", "4 d". */
export function ago(d: Date, now = new Date()): string {
  const s = Math.max(0, Math.round((now.getTime() - d.getTime()) / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

/** micros is a duration given in microseconds. */
export function micros(us: number): string {
  if (us < 1000) return `${us} \u00b5s`;
  if (us < 1e6) return `${(us / 1000).toFixed(us < 1e4 ? 2 : 1)} ms`;
  return `${(us / 1e6).toFixed(2)} s`;
}

export function bytes(n: number): string {
  if (n < 1000) return `${n} B`;
  if (n < 1e6) return `${(n / 1000).toFixed(1)} kB`;
  return `${(n / 1e6).toFixed(1)} MB`;
}

/** count groups the digits of a number, the same in every locale. */
export const count = (n: number) => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
