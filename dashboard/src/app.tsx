// The frame: who is logged in, the way between pages, and whether the book grows.

import { useCallback, useEffect, useState } from "react";
import { api, ApiError, onUnauthorized, type Session } from "./api";
import { Health } from "./health";
import { AgentsPage } from "./pages/agents";
import { AlertPage, AlertsPage } from "./pages/alerts";
import { BookPage } from "./pages/book";
import { EventPage } from "./pages/event";
import { EvidencePage } from "./pages/evidence";
import { LoginPage } from "./pages/login";
import { PoliciesPage } from "./pages/policies";
import { SessionPage } from "./pages/session";
import { TimelinePage } from "./pages/timeline";
import { Link, navigate, type Place, usePlace } from "./router";
import { plain } from "./text";
import { Empty, Failure } from "./ui";

const pages: [string, string][] = [
  ["", "Timeline"],
  ["agents", "Agents"],
  ["alerts", "Alerts"],
  ["policies", "Policies"],
  ["evidence", "Evidence"],
  ["book", "Book"],
];

export function App() {
  const place = usePlace();
  const [session, setSession] = useState<Session | null | undefined>();
  const [error, setError] = useState<unknown>();
  const load = useCallback(() => {
    setError(undefined);
    api.session().then(setSession, (e: unknown) => {
      if (e instanceof ApiError && e.status === 401) setSession(null);
      else setError(e);
    });
  }, []);
  useEffect(() => {
    onUnauthorized(() => setSession(null));
    load();
  }, [load]);

  if (place.path[0] === "login" || session === null || session?.account === false) {
    return (
      <LoginPage
        once={place.query.get("once") ?? undefined}
        session={session ?? undefined}
        onLogin={(s) => {
          setSession(s);
          if (location.pathname === "/login") navigate("/", "replace");
        }}
      />
    );
  }
  if (error) return <main className="alone"><Failure error={error} retry={load} /></main>;
  if (!session) return <main className="alone quiet" aria-busy="true">Opening the book…</main>;

  const out = async () => {
    await api.logout().catch(() => {});
    setSession(null);
    navigate("/login", "replace");
  };
  return (
    <div className="frame">
      <a className="skip" href="#content">Skip to the content</a>
      <header className="side">
        <Link to="/" className="brand" aria-label="Guardbook, timeline">
          <svg viewBox="0 0 32 32" aria-hidden="true">
            <path d="M16 3l11 4.4v8.4c0 6.6-4.5 11.8-11 14.1C9.5 27.6 5 22.4 5 15.8V7.4z" />
            <path className="ink" d="M11.5 11.5h9M11.5 16h9M11.5 20.5h5.5" />
          </svg>
          Guardbook
        </Link>
        <nav aria-label="Pages">
          {pages.map(([path, name]) => (
            <Link key={path} to={`/${path}`} aria-current={active(place, path) ? "page" : undefined}>{name}</Link>
          ))}
        </nav>
        <Health />
        <div className="who">
          <span title="logged in as">{plain(session.name || "operator", 40)}</span>
          <button type="button" className="small" onClick={() => void out()}>Log out</button>
        </div>
      </header>
      <main id="content" tabIndex={-1}>
        <Page place={place} />
      </main>
    </div>
  );
}

function active(place: Place, path: string): boolean {
  const first = place.path[0] ?? "";
  if (path === "") return first === "" || first === "events" || first === "sessions";
  return first === path;
}

function Page({ place }: { place: Place }) {
  const [first = "", id] = place.path;
  switch (first) {
    case "":
      return <TimelinePage query={place.query} />;
    case "events":
      return id ? <EventPage key={id} id={id} /> : <TimelinePage query={place.query} />;
    case "sessions":
      return id ? <SessionPage key={id} session={id} /> : <TimelinePage query={place.query} />;
    case "agents":
      return <AgentsPage />;
    case "alerts":
      return id ? <AlertPage key={id} id={id} /> : <AlertsPage state={place.query.get("state") ?? "open"} />;
    case "policies":
      return <PoliciesPage />;
    case "evidence":
      return <EvidencePage />;
    case "book":
      return <BookPage />;
    default:
      return <Empty title="There is no such page"><p><Link to="/">Go to the timeline</Link></p></Empty>;
  }
}
