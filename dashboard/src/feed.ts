// The live feed behind the timeline: a page of history, then the stream, as one
// list without gaps or doubles, newest first.

import { useCallback, useEffect, useRef, useState } from "react";
import { api, ApiError, type Filters, query } from "./api";
import type { Entry } from "./entry";
import { setConnection } from "./health";
import { follow } from "./sse";

/** maxRows is how many entries a page keeps; older ones are read again when scrolled to. */
export const maxRows = 20_000;
const page = 200;

export interface Rows {
  rows: Entry[];
  waiting: Entry[];
  /** How many came in while the reader was elsewhere; can exceed waiting.length. */
  count: number;
}

/** add puts new entries (oldest first) into the list, or beside it while the reader holds the list still. Known ids are dropped. */
export function add(r: Rows, fresh: Entry[], hold: boolean, max = maxRows): Rows {
  const known = new Set([...r.waiting, ...r.rows].slice(0, 2000).map((e) => e.id));
  const list = fresh.filter((e) => !known.has(e.id) && (known.add(e.id), true)).toReversed();
  if (list.length === 0) return r;
  if (hold) return { rows: r.rows, waiting: [...list, ...r.waiting].slice(0, max), count: r.count + list.length };
  return { rows: [...list, ...r.rows].slice(0, max), waiting: [], count: 0 };
}

/** merge lets the held entries in. When there were more than could be held, the list begins anew with them: no gap inside it. */
export function merge(r: Rows, max = maxRows): Rows {
  if (r.waiting.length === 0) return r;
  const rows = r.count > r.waiting.length ? r.waiting : [...r.waiting, ...r.rows].slice(0, max);
  return { rows, waiting: [], count: 0 };
}

export interface Feed extends Rows {
  loading: boolean;
  error: unknown;
  /** No older entries exist. */
  complete: boolean;
  older: () => void;
  release: () => void;
}

/** startAfter is the sequence after which the stream begins, so that nothing falls between history and stream: the archive may be behind the book. */
function startAfter(history: Entry[], size: number, filtered: boolean): number {
  const newest = history[0]?.seq ?? -1;
  return filtered ? Math.max(newest, size - 5000, -1) : Math.max(newest, -1);
}

/** useFeed reads and follows the entries that match the filters. While hold() is true, new entries wait. */
export function useFeed(filters: Filters, hold: () => boolean): Feed {
  const [state, setState] = useState<Rows>({ rows: [], waiting: [], count: 0 });
  const [loading, setLoading] = useState(true);
  const [error, setError] = useState<unknown>();
  const [complete, setComplete] = useState(false);
  const held = useRef(hold);
  held.current = hold;
  const busy = useRef(false);
  const key = JSON.stringify(filters);

  useEffect(() => {
    const f = JSON.parse(key) as Filters;
    const stop = new AbortController();
    setState({ rows: [], waiting: [], count: 0 });
    setLoading(true);
    setError(undefined);
    setComplete(false);
    let buffer: Entry[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    let last = -1;
    const flush = () => {
      timer = undefined;
      const fresh = buffer;
      buffer = [];
      setState((s) => add(s, fresh, held.current()));
    };
    const run = async () => {
      const book = await api.book();
      const history = await api.events({ ...f, limit: page, order: "desc" }, stop.signal);
      if (stop.signal.aborted) return;
      setState({ rows: history, waiting: [], count: 0 });
      setComplete(history.length < page);
      setLoading(false);
      last = startAfter(history, book.size, Object.keys(f).length > 0);
      await follow({
        url: `/api/v1/events/stream${query({ ...f })}`,
        lastEventId: () => (last >= 0 ? String(last) : undefined),
        signal: stop.signal,
        onState: (s, detail) => {
          if (!stop.signal.aborted) setConnection(s, detail);
          if (s === "refused") void api.session().catch(() => {});
        },
        onMessage: (m) => {
          let e: Entry;
          try {
            e = JSON.parse(m.data) as Entry;
          } catch {
            return; // Not an entry: a notice of a later version.
          }
          if (typeof e.id !== "string" || typeof e.seq !== "number") return;
          last = Number(m.id || e.seq);
          buffer.push(e);
          timer ??= setTimeout(flush, 150);
        },
      });
    };
    run().catch((e: unknown) => {
      if (stop.signal.aborted) return;
      setLoading(false);
      setError(e);
      setConnection("waiting", e instanceof ApiError ? e.message : undefined);
    });
    return () => {
      stop.abort();
      clearTimeout(timer);
      setConnection(undefined);
    };
  }, [key]);

  const older = useCallback(() => {
    const bottom = state.rows.at(-1);
    if (busy.current || complete || !bottom || state.rows.length >= maxRows) return;
    busy.current = true;
    api
      .events({ ...(JSON.parse(key) as Filters), before: bottom.seq, limit: page, order: "desc" })
      .then(
        (more) => {
          setComplete(more.length < page);
          setState((s) => (s.rows.at(-1)?.id === bottom.id ? { ...s, rows: [...s.rows, ...more] } : s));
        },
        (e: unknown) => setError(e),
      )
      .finally(() => {
        busy.current = false;
      });
  }, [state.rows, complete, key]);

  const release = useCallback(() => setState((s) => merge(s)), []);
  return { ...state, loading, error, complete, older, release };
}
