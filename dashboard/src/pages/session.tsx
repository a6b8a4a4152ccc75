import { useCallback, useEffect, useMemo, useState } from "react";
import { api } from "../api";
import { type Entry, severityOf, summary, text, toolName } from "../entry";
import { href, Link } from "../router";
import { plain } from "../text";
import { count, parseTime } from "../time";
import { ActionBadge, Clip, Empty, Facts, Failure, SeverityMark, Text, Time, useTitle } from "../ui";
import { KillDialog } from "./kill";
import { kindOf } from "./timeline";

const page = 500;

/** SessionPage replays a session: every entry of it, in the order of the book. */
export function SessionPage({ session }: { session: string }) {
  useTitle(`Session ${session}`);
  const [rows, setRows] = useState<Entry[]>([]);
  const [complete, setComplete] = useState(false);
  const [error, setError] = useState<unknown>();
  const [loading, setLoading] = useState(false);
  const [killing, setKilling] = useState(false);
  const more = useCallback(
    async (after: number) => {
      setLoading(true);
      try {
        const list = await api.events({ session, after, limit: page, order: "asc" });
        setRows((r) => [...r, ...list.filter((e) => e.seq > (r.at(-1)?.seq ?? -1))]);
        setComplete(list.length < page);
        setError(undefined);
      } catch (e) {
        setError(e);
      } finally {
        setLoading(false);
      }
    },
    [session],
  );
  useEffect(() => void more(-1), [more]);
  const agents = useMemo(() => [...new Set(rows.map((e) => text(e, "agent")).filter(Boolean))], [rows]);
  const stopped = rows.filter((e) => text(e, "decision") === "block").length;
  const first = rows[0];
  const last = rows.at(-1);
  return (
    <article className="session">
      <header>
        <p className="crumbs"><Link to="/">Timeline</Link> <span aria-hidden="true">/</span> session</p>
        <h1>Session <Clip value={session} max={80} /></h1>
      </header>
      <nav className="ways" aria-label="From here">
        <Link className="button" to={href([""], { session })}>Follow it live</Link>
        <button type="button" className="danger" onClick={() => setKilling(true)}>Kill this session</button>
      </nav>
      {killing && <KillDialog scope={`session:${session}`} onClose={() => setKilling(false)} />}
      {first && last && (
        <section className="card">
          <Facts
            rows={[
              ["Agents", agents.map((a) => <Link key={a} to={href([""], { agent: a })} className="spaced"><Clip value={a} max={60} /></Link>)],
              ["Entries", `${count(rows.length)}${complete ? "" : " read so far"}, ${count(stopped)} blocked`],
              ["From", <Time key="f" value={first.ts} />],
              ["To", <Time key="t" value={last.ts} />],
            ]}
          />
        </section>
      )}
      <Failure error={error} retry={() => void more(last?.seq ?? -1)} />
      {!loading && !error && rows.length === 0 && <Empty title="The book has no entry of this session"><p><Link to="/">Back to the timeline</Link></p></Empty>}
      <ol className="replay">
        {rows.map((e, i) => {
          const at = parseTime(e.ts)?.getTime() ?? 0;
          const start = parseTime(first?.ts)?.getTime() ?? at;
          return (
            <li key={e.id} className={text(e, "decision") === "block" || e.type === "containment" ? "step stopped" : "step"}>
              <span className="offset" title={e.ts}>+{((at - start) / 1000).toFixed(3)} s</span>
              <Link to={href(["events", e.id])} className="what">
                <span className="n">{i + 1}</span> {kindOf(e)}
                {toolName(e) && <> <Clip value={toolName(e)} max={60} /></>}
                {text(e, "role") && <span className="quiet"> {plain(text(e, "role"), 20)}</span>}
              </Link>
              <span>{text(e, "decision") && <ActionBadge action={text(e, "decision")} would={text(e, "would") || undefined} />}</span>
              <span>{severityOf(e) !== "info" && <SeverityMark severity={severityOf(e)} />}</span>
              <span className="said">
                <Text value={summary(e)} max={300} />
                {text(e, "rule") && <span className="hint"><Clip value={text(e, "rule")} max={120} /></span>}
              </span>
            </li>
          );
        })}
      </ol>
      {!complete && rows.length > 0 && <button type="button" disabled={loading} onClick={() => void more(last?.seq ?? -1)}>Read on</button>}
    </article>
  );
}
