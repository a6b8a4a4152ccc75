// Whether the book grows and is sealed, and whether this page hears of it.

import { useSyncExternalStore } from "react";
import { api } from "./api";
import { Link } from "./router";
import type { Connection } from "./sse";
import { count } from "./time";
import { Time, useLoad } from "./ui";

let connection: { state: Connection; detail?: string | undefined } | undefined;
const listeners = new Set<() => void>();

/** setConnection is told by the live timeline; undefined when there is none. */
export function setConnection(state: Connection | undefined, detail?: string) {
  connection = state ? { state, detail } : undefined;
  for (const f of listeners) f();
}

function useConnection() {
  return useSyncExternalStore(
    (f) => (listeners.add(f), () => listeners.delete(f)),
    () => connection,
  );
}

const words: Record<Connection, string> = {
  connecting: "connecting",
  live: "live",
  waiting: "reconnecting",
  refused: "logged out",
};

export function Health() {
  const live = useConnection();
  const { data, error } = useLoad(() => api.overview(), [], 5000);
  const bad = error !== undefined || live?.state === "waiting" || live?.state === "refused";
  const state = error ? "no answer" : live ? words[live.state] : data ? "answering" : "connecting";
  const sealed = data?.checkpoint;
  return (
    <section className="health" aria-label="Health">
      <div className={bad ? "connection bad" : "connection good"} title={live?.detail ?? (error instanceof Error ? error.message : undefined)}>
        <svg viewBox="0 0 16 16" aria-hidden="true">
          {bad ? <path d="M8 1.5L15 14H1z" /> : <circle cx="8" cy="8" r="5" />}
        </svg>
        <span role="status" data-testid="connection">{state}</span>
      </div>
      {data?.size !== undefined && (
        <Link to="/book" className="facts-link">
          <span>{count(data.size)} {data.size === 1 ? "entry" : "entries"}</span>
          {sealed && sealed.size > 0 && (
            <span>
              {sealed.size >= data.size ? "all sealed" : `${count(sealed.size)} sealed`}
              {sealed.time && <>, <Time value={sealed.time} relative /></>}
            </span>
          )}
          {data.heartbeat && <span>heartbeat <Time value={data.heartbeat} relative /></span>}
        </Link>
      )}
    </section>
  );
}
