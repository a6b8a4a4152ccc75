import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { api, type Filters, type Overview } from "../api";
import { DecisionChart } from "../chart";
import { actions, classes, type Entry, entryTypes, severities, severityOf, summary, text, toolName } from "../entry";
import { useFeed } from "../feed";
import { href, Link, navigate } from "../router";
import { plain } from "../text";
import { count } from "../time";
import { ActionBadge, Clip, Command, Empty, Failure, SeverityMark, Time, useLoad, useMedia, useTitle } from "../ui";

const names = ["agent", "session", "class", "severity", "action", "type", "tool", "rule"] as const;
type Name = (typeof names)[number];
type Choice = Partial<Record<Name, string>>;

/** TimelinePage is the live book: what just happened, and what happened before it. */
export function TimelinePage({ query }: { query: URLSearchParams }) {
  useTitle("Timeline");
  const choice = useMemo<Choice>(() => {
    const c: Choice = {};
    for (const n of names) {
      const v = query.get(n);
      if (v) c[n] = v;
    }
    return c;
  }, [query]);
  const overview = useLoad(() => api.overview(), [], 5000);
  return (
    <div className="timeline">
      <h1 className="sr">Timeline</h1>
      <section className="overview" aria-label="Overview">
        <div>
          <Head data={overview.data} />
          <FilterBar choice={choice} />
        </div>
        <DecisionChart minutes={overview.data?.minutes ?? []} />
      </section>
      <List key={JSON.stringify(choice)} choice={choice} first={overview.data?.agents === 0} />
    </div>
  );
}

const n = (v: number | undefined) => (v === undefined ? "–" : count(v));

function Head({ data }: { data: Overview | undefined }) {
  const d = data?.decisions ?? {};
  const total = actions.reduce((sum, a) => sum + (d[a] ?? 0), 0);
  return (
      <div className="counts">
        <Link to="/?type=decision" className="count total" title="decisions in the last 24 hours">
          <b>{data ? n(total) : "–"}</b>
          <span>decisions, 24 h</span>
        </Link>
        {actions.filter((a) => a !== "log").map((a) => (
          <Link key={a} to={href([""], { action: a })} className="count">
            <b>{data ? n(d[a] ?? 0) : "–"}</b>
            <ActionBadge action={a} />
          </Link>
        ))}
        <Link to="/alerts" className={data?.open_alerts ? "count loud" : "count"}>
          <b>{n(data?.open_alerts)}</b>
          <span>open alerts</span>
        </Link>
        <Link to="/agents" className={data?.containments ? "count loud" : "count"}>
          <b>{n(data?.containments)}</b>
          <span>contained</span>
        </Link>
      </div>
  );
}

function change(choice: Choice, name: Name, value: string) {
  navigate(href([""], { ...choice, [name]: value.trim() || undefined }), "replace");
}

function FilterBar({ choice }: { choice: Choice }) {
  const pick = (name: Name, label: string, values: readonly string[], all: string) => (
    <select aria-label={label} value={choice[name] ?? ""} onChange={(e) => change(choice, name, e.target.value)} className={choice[name] ? "set" : undefined}>
      <option value="">{all}</option>
      {values.map((v) => <option key={v} value={v}>{v.replaceAll("_", " ")}</option>)}
    </select>
  );
  const type = (name: Name, label: string) => (
    <Typed key={choice[name] ?? ""} name={name} label={label} value={choice[name] ?? ""} onCommit={(v) => change(choice, name, v)} />
  );
  return (
    <form className="filters" role="search" aria-label="Filters" onSubmit={(e) => e.preventDefault()}>
      {type("agent", "agent")}
      {type("session", "session")}
      {type("tool", "tool")}
      {type("rule", "rule contains")}
      {pick("action", "decision", actions, "any decision")}
      {pick("severity", "severity", severities, "any severity")}
      {pick("class", "threat class", classes, "any class")}
      {pick("type", "type of entry", [...entryTypes, "all"], "all but heartbeats and tests")}
    </form>
  );
}

/** Typed is a filter that is typed: it counts when Enter is pressed, the field is left or typing rests. */
function Typed({ name, label, value, onCommit }: { name: string; label: string; value: string; onCommit: (v: string) => void }) {
  const [draft, setDraft] = useState(value);
  const commit = useRef(onCommit);
  commit.current = onCommit;
  useEffect(() => {
    if (draft === value) return;
    const t = setTimeout(() => commit.current(draft), 600);
    return () => clearTimeout(t);
  }, [draft, value]);
  return (
    <input
      name={name}
      type="search"
      aria-label={label}
      placeholder={label}
      value={draft}
      maxLength={200}
      autoComplete="off"
      spellCheck={false}
      className={value ? "set" : undefined}
      onChange={(e) => setDraft(e.target.value)}
      onBlur={() => draft !== value && onCommit(draft)}
      onKeyDown={(e) => e.key === "Enter" && onCommit(draft)}
    />
  );
}

/** List is the entries that match; first says that no agent is registered yet. */
function List({ choice, first }: { choice: Choice; first: boolean }) {
  const scroller = useRef<HTMLDivElement>(null);
  const away = useRef(false);
  const [paused, setPaused] = useState(false);
  const { rule, type, ...rest } = choice;
  // The instance's own test interactions are shown to whoever asks for them.
  const tests = rest.agent !== undefined || type === "all" || type === "canary";
  const filters: Filters = { ...rest, ...(type && type !== "all" ? { type } : {}), ...(tests ? {} : { canaries: "hide" }) };
  const feed = useFeed(filters, () => paused || away.current);
  const rows = useMemo(
    () =>
      feed.rows.filter(
        (e) => (type !== undefined || e.type !== "heartbeat") && (!rule || text(e, "rule").toLowerCase().includes(rule.toLowerCase())),
      ),
    [feed.rows, rule, type],
  );
  const narrow = useMedia("(max-width: 1099px)");
  const height = narrow ? 50 : 32;
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => height,
    getItemKey: (i) => rows[i]?.id ?? i,
    overscan: 12,
  });
  useEffect(() => virtual.measure(), [virtual, height]);
  const { older, release } = feed;

  const onScroll = useCallback(() => {
    const s = scroller.current;
    if (!s) return;
    away.current = s.scrollTop > 40;
    if (s.scrollHeight - s.scrollTop - s.clientHeight < 600) older();
  }, [older]);
  // A client-side filter may leave too little to scroll: read on until the view is full.
  useEffect(() => {
    if (!feed.loading && rows.length * height < 1200) older();
  }, [feed.loading, rows.length, height, older]);

  const top = () => {
    setPaused(false);
    away.current = false;
    release();
    scroller.current?.scrollTo({ top: 0 });
  };
  const move = (e: KeyboardEvent) => {
    if (e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
    const links = [...(scroller.current?.querySelectorAll<HTMLAnchorElement>("a.row") ?? [])].toSorted((a, b) => a.offsetTop - b.offsetTop || Number(a.dataset["index"]) - Number(b.dataset["index"]));
    const at = links.indexOf(document.activeElement as HTMLAnchorElement);
    const next = links[at + (e.key === "ArrowDown" ? 1 : -1)];
    if (at < 0 || !next) return;
    e.preventDefault();
    next.focus();
  };
  const waiting = feed.waiting.filter((e) => type !== undefined || e.type !== "heartbeat").length;
  return (
    <section className="list" aria-label="Entries">
      <div className="list-bar">
        <button type="button" className="small" aria-pressed={paused} onClick={() => (paused ? top() : setPaused(true))}>
          {paused ? "Resume" : "Pause"}
        </button>
        {waiting > 0 && (
          <button type="button" className="small primary" onClick={top}>{count(feed.count > feed.waiting.length ? feed.count : waiting)} new</button>
        )}
        <span className="quiet" role="status">
          {feed.loading ? "reading…" : paused ? "paused" : `${count(rows.length)} shown${feed.complete ? "" : ", more below"}`}
        </span>
        {Object.keys(choice).length > 0 && <Link to="/" className="button small">Clear filters</Link>}
        {choice.session && <Link className="end" to={href(["sessions", choice.session])}>Replay session {plain(choice.session, 40)}</Link>}
      </div>
      <div className="row head" aria-hidden="true">
        <span>Time</span><span /><span>Agent</span><span>Kind</span><span>Tool</span><span>Decision</span><span>Rule</span><span>Message</span>
      </div>
      <Failure error={feed.error} />
      {first && rows.length > 0 && Object.keys(choice).length === 0 && <Nothing filtered={false} />}
      {!feed.loading && rows.length === 0 && !feed.error ? (
        <Nothing filtered={Object.keys(choice).length > 0} />
      ) : (
        // The rows inside are links and take the keys; this only listens to them pass.
        // oxlint-disable-next-line jsx-a11y/no-static-element-interactions
        <div className="scroller" ref={scroller} onScroll={onScroll} onKeyDown={move}>
          <div className="inner" style={{ height: virtual.getTotalSize() }}>
            {virtual.getVirtualItems().map((item) => {
              const e = rows[item.index];
              return e ? <Row key={item.key} entry={e} index={item.index} top={item.start} height={height} /> : null;
            })}
          </div>
        </div>
      )}
    </section>
  );
}

/** kindOf is what an entry is called in the Kind column. */
export function kindOf(e: Entry): string {
  return (e.type === "decision" ? text(e, "kind") : e.type).replaceAll("_", " ");
}

function Row({ entry: e, index, top, height }: { entry: Entry; index: number; top: number; height: number }) {
  const action = text(e, "decision");
  return (
    <Link
      to={href(["events", e.id])}
      className={`row type-${entryTypes.includes(e.type) ? e.type : "other"}${action === "block" ? " blocked" : ""}`}
      style={{ height, transform: `translateY(${top}px)` }}
      data-index={index}
      data-agent={plain(text(e, "agent"), 100)}
      data-type={e.type}
    >
      <span className="time"><Time value={e.ts} /></span>
      <span className="sev"><SeverityMark severity={severityOf(e)} word={false} /></span>
      <span className="agent"><Clip value={text(e, "agent") || text(e, "scope").replace(/^agent:/, "")} max={60} /></span>
      <span className="kind">{kindOf(e)}</span>
      <span className="tool"><Clip value={toolName(e)} max={80} /></span>
      <span className="decision">{action && <ActionBadge action={action} would={text(e, "would") || undefined} />}</span>
      <span className="rule"><Clip value={text(e, "rule")} max={120} /></span>
      <span className="message"><Clip value={summary(e)} max={240} /></span>
    </Link>
  );
}

/** threeLines is what guards an agent: its key, and base URLs for clients that can set only those. */
export function threeLines(origin: string, key: string): string {
  return `export GUARDBOOK_KEY=${key}\nexport OPENAI_BASE_URL=${origin}/k/$GUARDBOOK_KEY/openai/v1\nexport ANTHROPIC_BASE_URL=${origin}/k/$GUARDBOOK_KEY/anthropic`;
}

function Nothing({ filtered }: { filtered: boolean }) {
  if (filtered) {
    return <Empty title="Nothing in the book matches these filters"><p><Link to="/">Clear the filters</Link> to see every entry.</p></Empty>;
  }
  return (
    <Empty title="The book is open; no agent has said anything yet">
      <p>Create an agent, then start it with these three lines. Whatever it reads, says or does appears here.</p>
      <Command>guardbook agents create my-agent --owner you@example.com</Command>
      <Command>{threeLines(location.origin, "gbk_...")}</Command>
      <p>Or <Link to="/agents">create it on the Agents page</Link>, or watch the three stories: <code>guardbook demo</code>.</p>
    </Empty>
  );
}
