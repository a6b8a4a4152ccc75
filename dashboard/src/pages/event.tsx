import { type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { api, type EventDetail } from "../api";
import { type Entry, type Finding, isDecision, type LayerRun, severityOf, summary, text, toolName } from "../entry";
import { check, type Verdict } from "../merkle";
import { href, Link } from "../router";
import { ruleLines } from "../rulelines";
import { plain } from "../text";
import { bytes, count, micros } from "../time";
import { ActionBadge, Clip, Command, Copy, Empty, Facts, Failure, SeverityMark, Text, Time, useLoad, useTitle } from "../ui";
import { kindOf } from "./timeline";

/** EventPage is one entry: what was decided and why, the policy that was in force, and its proof in the book. */
export function EventPage({ id }: { id: string }) {
  const { data, error, reload } = useLoad(() => api.event(id), [id]);
  useTitle(data ? `Entry ${data.entry.seq}` : "Entry");
  if (error && !data) {
    return (
      <>
        <Failure error={error} retry={reload} />
        <Empty title="This entry is not here"><p>It may be too new for the archive: try again in a moment. <Link to="/">Back to the timeline</Link></p></Empty>
      </>
    );
  }
  if (!data) return <p className="quiet" aria-busy="true">Reading the entry…</p>;
  const e = data.entry;
  return (
    <article className="event">
      <header>
        <p className="crumbs">
          <Link to="/">Timeline</Link> <span aria-hidden="true">/</span> entry {count(e.seq)}
        </p>
        <h1>
          {isDecision(e) && <ActionBadge action={e.decision} would={e.would} />}
          <SeverityMark severity={severityOf(e)} />
          <span>{kindOf(e)}{toolName(e) && <> of <Clip value={toolName(e)} max={80} /></>}{text(e, "agent") && <> by <Clip value={text(e, "agent")} max={60} /></>}</span>
        </h1>
        {summary(e) && <p className="lead"><Text value={summary(e)} max={600} lines /></p>}
      </header>
      <Ways entry={e} />
      <section className="card">
        <h2>Facts</h2>
        <FactsOf entry={e} />
      </section>
      {isDecision(e) && <Findings findings={e.findings ?? []} rules={data.rules ?? {}} truncated={e.truncated} />}
      {isDecision(e) && <Layers layers={e.layers ?? []} total={e.us} />}
      {isDecision(e) && <PolicyInForce detail={data} rule={e.rule} />}
      <ProofInBook detail={data} />
      <section className="card">
        <h2>The entry as stored <Copy text={new TextDecoder().decode(data.raw)} what="the raw entry" /></h2>
        <p className="hint">The exact {count(data.raw.length)} bytes that were hashed. Beyond masked excerpts, nothing that the agent said is among them; a salted commitment stands for it.</p>
        <pre className="raw"><Text value={new TextDecoder().decode(data.raw)} max={4000} /></pre>
      </section>
    </article>
  );
}

function Ways({ entry: e }: { entry: Entry }) {
  const agent = text(e, "agent");
  const session = text(e, "session");
  const alert = e.type === "alert" || e.type === "notification" ? text(e, "alert") : "";
  const caused = e.type === "alert" ? text(e, "event") : "";
  const contained = text(e, "containment");
  return (
    <nav className="ways" aria-label="From here">
      {session && <Link className="button" to={href(["sessions", session])}>Replay the session</Link>}
      {agent && <Link className="button" to={href([""], { agent })}>All of this agent</Link>}
      {text(e, "rule") && <Link className="button" to={href([""], { rule: text(e, "rule") })}>All of this rule</Link>}
      {alert && <Link className="button" to={href(["alerts", alert])}>The alert</Link>}
      {caused && <Link className="button" to={href(["events", caused])}>What caused it</Link>}
      {contained && contained !== e.id && <Link className="button" to={href(["events", contained])}>The containment</Link>}
    </nav>
  );
}

function FactsOf({ entry: e }: { entry: Entry }) {
  const header: [string, ReactNode][] = [
    ["Occurred", <><Time key="t" value={e.ts} /> <span className="quiet">{plain(e.ts, 40)}</span></>],
    ["Recorded", <><Time key="t" value={e.rec} /> <span className="quiet">{plain(e.rec, 40)}</span></>],
    ["Entry", <code key="id">{plain(e.id, 60)}</code>],
    ["Log and sequence", <><code>{plain(e.log, 120)}</code>, {e.seq}</>],
    ["Instance, tenant", `${plain(e.instance, 80)}, ${plain(e.tenant, 80)}`],
  ];
  if (!isDecision(e)) {
    const shown = new Set(["v", "log", "seq", "id", "ts", "rec", "instance", "type", "tenant"]);
    const rest = Object.entries(e).filter(([k]) => !shown.has(k));
    return <Facts rows={[["Type", e.type], ...rest.map(([k, v]): [string, ReactNode] => [k.replaceAll("_", " "), <Member key={k} value={v} />]), ...header]} />;
  }
  return (
    <Facts
      pairs
      rows={[
        ["Agent", <Text key="a" value={e.agent} max={120} />],
        ["Session", e.session && <Link key="s" to={href(["sessions", e.session])}><Clip value={e.session} max={120} /></Link>],
        ["User", e.user && <Text key="u" value={e.user} max={120} />],
        ["Delegated by", e.parent && <Text key="p" value={e.parent} max={120} />],
        ["Kind", kindOf(e) + (e.role ? `, role ${plain(e.role, 20)}` : "")],
        ["Tool", toolName(e) && <><Text key="t" value={toolName(e)} max={120} />{e.tool?.call_id && <span className="quiet"> call <Clip value={e.tool.call_id} max={80} /></span>}</>],
        ["Came by", <code key="path">{plain(e.path, 80)}</code>],
        ["Decision", <><ActionBadge key="d" action={e.decision} would={e.would} /> in {micros(e.us)}{e.cached && ", findings from the cache"}</>],
        ["Rule", e.rule && <code key="r"><Text value={e.rule} max={300} /></code>],
        ["Severity", <SeverityMark key="sev" severity={e.severity} />],
        ["Policy", e.policy ? <><Text value={e.policy} max={120} /> <span className="quiet">{plain(e.mode, 20)}</span></> : "none"],
        ["Bundle", e.bundle && <code key="b" className="hash">{plain(e.bundle, 90)}</code>],
        ["Failed open", e.fail_open && <strong key="f">yes: a layer failed and the policy's on_error let it pass</strong>],
        ["Size", bytes(e.bytes)],
        ["Commitment", e.commitment && <code key="c" className="hash">{plain(e.commitment, 90)}</code>],
        ["Client's sequence", e.client_seq],
        ["Alert to", e.alert && plain(e.alert, 80)],
        ...header,
      ]}
    />
  );
}

/** Member shows a value of any shape as text. */
function Member({ value }: { value: unknown }) {
  if (typeof value === "string") return <Text value={value} max={500} lines />;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return <pre className="member"><Text value={JSON.stringify(value, null, 1)} max={1500} lines /></pre>;
}

function Findings({ findings, rules, truncated }: { findings: Finding[]; rules: Record<string, string>; truncated: number | undefined }) {
  return (
    <section className="card">
      <h2>Findings</h2>
      {findings.length === 0 ? (
        <p className="quiet">No detector found anything.</p>
      ) : (
        <div className="wide">
          <table>
            <thead><tr><th>Class</th><th>Severity</th><th className="number">Confidence</th><th>Layer</th><th>Rule</th><th>Excerpt, masked</th><th>Span</th></tr></thead>
            <tbody>
              {findings.map((f) => (
                <tr key={`${f.layer} ${f.rule} ${f.span?.path} ${f.span?.start} ${f.span?.end}`}>
                  <td>{plain(f.class, 40).replaceAll("_", " ")}</td>
                  <td><SeverityMark severity={f.severity} /></td>
                  <td className="number">
                    <meter min={0} max={1} value={f.confidence} aria-label={`confidence ${f.confidence}`} /> {f.confidence.toFixed(2)}
                  </td>
                  <td>{plain(f.layer, 20)}</td>
                  <td><code><Text value={f.rule} max={120} /></code>{(f.message || rules[f.rule]) && <div className="hint"><Text value={f.message || rules[f.rule]} max={300} /></div>}</td>
                  <td>{f.excerpt ? <code className="excerpt"><Text value={f.excerpt} max={120} /></code> : <span className="quiet">not kept</span>}</td>
                  <td>{f.span ? <code><Text value={f.span.path} max={80} /> {f.span.start}–{f.span.end}</code> : "–"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {truncated ? <p className="note">{truncated} more findings were left out to keep the entry under its size limit.</p> : null}
    </section>
  );
}

function Layers({ layers, total }: { layers: LayerRun[]; total: number }) {
  const most = Math.max(1, ...layers.map((l) => l.us));
  return (
    <section className="card">
      <h2>Layers <span className="quiet">{micros(total)} from arrival to decision</span></h2>
      {layers.length === 0 && <p className="note failure">No layer ran on this interaction.</p>}
      {layers.length > 0 && (
        <table className="layers">
          <thead><tr><th>Layer</th><th className="number">Time</th><th><span className="sr">Share</span></th><th>Version</th><th>Result</th></tr></thead>
          <tbody>
            {layers.map((l) => (
              <tr key={`${l.name} ${l.version ?? ""}`}>
                <td>{plain(l.name, 40)}</td>
                <td className="number">{micros(l.us)}</td>
                <td><progress max={most} value={l.us} aria-label={`${micros(l.us)}`} /></td>
                <td className="quiet"><Clip value={l.version} max={60} /></td>
                <td>{l.error ? <span className="bad-word">did not finish: <Text value={l.error} max={300} /></span> : "ran"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function PolicyInForce({ detail, rule }: { detail: EventDetail; rule: string }) {
  const policy = detail.policy;
  const marked = useRef<HTMLLIElement>(null);
  const box = useRef<HTMLOListElement>(null);
  const found = useMemo(() => (policy ? ruleLines(policy.text, rule) : undefined), [policy, rule]);
  useEffect(() => {
    // Only the box scrolls, never the page.
    if (box.current && marked.current) box.current.scrollTop = Math.max(0, marked.current.offsetTop - 60);
  }, [found]);
  return (
    <section className="card">
      <h2>Policy in force {policy && <span className="quiet">{plain(policy.file, 120)}</span>}</h2>
      {!policy && <p className="quiet">No policy text belongs to this decision: either none covered the agent, or its bundle is not kept here.</p>}
      {policy && (
        <>
          <p className="hint">
            {found
              ? `Line ${found.from + 1}${found.to > found.from ? `–${found.to + 1}` : ""} decided, by the rule `
              : "The text as it was when the decision was made. No line of it is the rule "}
            <code><Text value={rule || "(none)"} max={200} /></code>
          </p>
          <ol className="source" ref={box} tabIndex={0} aria-label="policy text">
            {policy.text.replace(/\n$/, "").split("\n").map((line, i) => {
              const on = found !== undefined && i >= found.from && i <= found.to;
              return (
                // Lines of a fixed text.
                // oxlint-disable-next-line react/no-array-index-key
                <li key={i} className={on ? "on" : undefined} ref={on && i === found.from ? marked : undefined}>
                  <Text value={line || " "} max={400} lines />
                </li>
              );
            })}
          </ol>
        </>
      )}
    </section>
  );
}

function ProofInBook({ detail }: { detail: EventDetail }) {
  const { entry: e, raw, proof } = detail;
  const book = useLoad(() => api.book(), []);
  const [verdict, setVerdict] = useState<Verdict>();
  const [error, setError] = useState<unknown>();
  const key = book.data?.key;
  const ready = book.data !== undefined || book.error !== undefined;
  useEffect(() => {
    if (!proof || !ready) return;
    let current = true;
    check(raw, proof, e.seq, key).then(
      (v) => current && setVerdict(v),
      (err: unknown) => current && setError(err),
    );
    return () => {
      current = false;
    };
  }, [raw, proof, e.seq, key, ready]);
  return (
    <section className="card proof">
      <h2>Proof in the book</h2>
      {!proof && <p className="note">{detail.proof_missing ? <Text value={detail.proof_missing} max={400} /> : "There is no proof yet: the entry is younger than the newest checkpoint. Open the page again in some seconds."}</p>}
      {proof && !verdict && !error && <p className="quiet" aria-busy="true">Hashing in this browser…</p>}
      {error !== undefined && <p className="verdict bad" role="alert" data-testid="proof-verdict">The proof could not be checked: {error instanceof Error ? plain(error.message, 300) : "unknown error"}</p>}
      {verdict && (
        <p className={verdict.matches ? "verdict good" : "verdict bad"} role="status" data-testid="proof-verdict">
          <svg viewBox="0 0 16 16" aria-hidden="true">
            {verdict.matches ? <path d="M3 8.5l3.2 3.2L13 4.8" fill="none" stroke="currentColor" strokeWidth="2.4" /> : <path d="M3 3l10 10M13 3L3 13" fill="none" stroke="currentColor" strokeWidth="2.4" />}
          </svg>
          {verdict.matches
            ? "Recomputed in this browser: root matches."
            : "Recomputed in this browser: the root does NOT match. The entry or the proof is not what the checkpoint was signed over."}
        </p>
      )}
      {verdict && (
        <>
          <Facts
            rows={[
              ["Leaf", `${count(verdict.index)} of ${count(verdict.size)}`],
              ["Log", <code key="o">{plain(verdict.origin, 120)}</code>],
              ["Leaf hash", <code key="l" className="hash">{verdict.leaf}</code>],
              ["Root, computed", <code key="c" className="hash">{verdict.computed}</code>],
              ["Root, signed", <code key="s" className="hash">{verdict.stated}</code>],
              [
                "Signature",
                verdict.signature === true ? (
                  <>good, by this server's key <code>{plain(book.data?.fingerprint ?? "", 120)}</code>. To rely on it, compare the fingerprint with one you had from elsewhere.</>
                ) : verdict.signature === false ? (
                  <strong className="bad-word">not good: the checkpoint carries no valid signature of this server's key</strong>
                ) : (
                  <span className="quiet">not checked here: {plain(verdict.signature, 200)}</span>
                ),
              ],
            ]}
          />
          <details>
            <summary>How the root was computed: {verdict.path.length} {verdict.path.length === 1 ? "hash" : "hashes"} on the way</summary>
            <ol className="path">
              <li>SHA-256(0x00, the {raw.length} bytes of the entry) = the leaf hash</li>
              {verdict.path.map((h, i) => <li key={h}>with <code className="hash">{h}</code>{i === verdict.path.length - 1 ? " = the root" : ""}</li>)}
            </ol>
          </details>
        </>
      )}
      {proof && (
        <details>
          <summary>Proof text (C2SP tlog-proof), to keep or to check elsewhere</summary>
          <pre className="raw"><Text value={proof} max={8000} lines /></pre>
          <Copy text={proof} what="the proof" />
        </details>
      )}
      <p className="hint">The same on the command line, without this page:</p>
      <Command>{`guardbook book proof ${e.seq}`}</Command>
    </section>
  );
}
