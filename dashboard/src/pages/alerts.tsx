import { useState } from "react";
import { api } from "../api";
import { href, Link } from "../router";
import { plain } from "../text";
import { count, micros } from "../time";
import { Clip, Dialog, Empty, Facts, Failure, Field, SeverityMark, Text, Time, useLoad, useTitle } from "../ui";

const states = ["open", "acknowledged", "closed"] as const;

const dispositions: [string, string][] = [
  ["true_positive", "true positive: it was an attack or a breach"],
  ["false_positive", "false positive: the finding was wrong"],
  ["benign", "benign: the finding was right, and it was allowed to happen"],
  ["suspicious", "suspicious: not settled, watch it"],
  ["test", "test"],
  ["duplicate", "duplicate of another alert"],
  ["insufficient_data", "insufficient data to tell"],
];

/** AlertsPage lists alerts by state. */
export function AlertsPage({ state }: { state: string }) {
  useTitle("Alerts");
  const { data, error, reload } = useLoad(() => api.alerts(state === "all" ? "" : state), [state], 5000);
  return (
    <>
      <header className="page-head"><h1>Alerts</h1></header>
      <nav className="tabs" aria-label="State">
        {[...states, "all"].map((s) => <Link key={s} to={href(["alerts"], { state: s })} aria-current={s === state ? "true" : undefined}>{s}</Link>)}
      </nav>
      <Failure error={error} retry={reload} />
      {data && data.length === 0 && (
        <Empty title={state === "open" ? "No open alerts" : "No alerts here"}>
          <p>An alert opens when a decision reaches the severity that its policy names:</p>
          <pre>alerts: {"{"}from: high, to: security-oncall{"}"}</pre>
          <p>The receiver is a webhook of the server's configuration.</p>
        </Empty>
      )}
      {data && data.length > 0 && (
        <div className="wide">
          <table>
            <thead><tr><th>Severity</th><th>Alert</th><th>Agent</th><th>State</th><th>Owner</th><th>Opened</th><th className="number">Count</th></tr></thead>
            <tbody>
              {data.map((a) => (
                <tr key={a.alert}>
                  <td><SeverityMark severity={a.severity} /></td>
                  <td><Link to={href(["alerts", a.alert])} className="name"><Clip value={a.title || a.rule || a.alert} max={120} /></Link><div className="hint"><Clip value={a.rule} max={120} /></div></td>
                  <td>{a.agent ? <Link to={href([""], { agent: a.agent })}><Clip value={a.agent} max={60} /></Link> : "–"}</td>
                  <td>{plain(a.state, 20)}{a.disposition && <div className="hint">{plain(a.disposition, 30).replaceAll("_", " ")}</div>}</td>
                  <td>{a.owner ? <Clip value={a.owner} max={60} /> : <span className="quiet">nobody</span>}</td>
                  <td><Time value={a.opened} relative /></td>
                  <td className="number">{count(a.count ?? 1)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

/** AlertPage is one alert's life: steps, attempts to notify, and what a person may do next. */
export function AlertPage({ id }: { id: string }) {
  const { data: a, error, reload } = useLoad(() => api.alert(id), [id], 3000);
  const [open, setOpen] = useState<"ack" | "assign" | "close">();
  useTitle(a?.title ?? "Alert");
  if (!a) return error ? <Failure error={error} retry={reload} /> : <p className="quiet" aria-busy="true">Reading the alert…</p>;
  const close = () => setOpen(undefined);
  const closed = a.state === "closed";
  return (
    <article>
      <header>
        <p className="crumbs"><Link to="/alerts">Alerts</Link> <span aria-hidden="true">/</span> {plain(a.state, 20)}</p>
        <h1><SeverityMark severity={a.severity} /> <Text value={a.title || a.rule || a.alert} max={200} /></h1>
      </header>
      <Failure error={error} retry={reload} />
      <nav className="ways" aria-label="What to do">
        {a.state === "open" && <button type="button" className="primary" onClick={() => setOpen("ack")}>Acknowledge</button>}
        {!closed && <button type="button" onClick={() => setOpen("assign")}>Assign</button>}
        {!closed && <button type="button" onClick={() => setOpen("close")}>Close</button>}
        {a.event && <Link className="button" to={href(["events", a.event])}>What caused it</Link>}
        {a.session && <Link className="button" to={href(["sessions", a.session])}>Replay the session</Link>}
        {a.agent && <Link className="button" to="/agents">Agents, kill switch</Link>}
      </nav>
      <section className="card">
        <Facts
          pairs
          rows={[
            ["State", plain(a.state, 30)],
            ["Agent", a.agent && <Text value={a.agent} max={100} />],
            ["Session", a.session && <Text value={a.session} max={100} />],
            ["Class", a.class && plain(a.class, 40).replaceAll("_", " ")],
            ["Rule", a.rule && <code><Text value={a.rule} max={200} /></code>],
            ["Owner", a.owner ? <Text value={a.owner} max={100} /> : "nobody"],
            ["Seen", `${count(a.count ?? 1)} ${(a.count ?? 1) === 1 ? "time" : "times"}`],
            ["Opened", a.opened && <Time value={a.opened} />],
            ["Receiver", a.receiver && `${plain(a.receiver, 80)}${a.delivery ? `, ${plain(a.delivery, 20)}` : ""}`],
            ["Disposition", a.disposition && plain(a.disposition, 40).replaceAll("_", " ")],
            ["Alert", <code key="id">{plain(a.alert, 60)}</code>],
          ]}
        />
      </section>
      <Steps title="Steps" rows={a.steps ?? []} />
      <Attempts rows={a.notifications ?? []} />
      {open === "ack" && (
        <Dialog title="Acknowledge the alert" submit="Acknowledge" onClose={close} onSubmit={async (f) => (await api.ackAlert(id, String(f.get("comment")).trim()), reload())}>
          <p>You have seen it and look into it. Your name and the time go into the book.</p>
          <Field label="Comment"><textarea name="comment" maxLength={2000} rows={3} /></Field>
        </Dialog>
      )}
      {open === "assign" && (
        <Dialog title="Assign the alert" submit="Assign" onClose={close} onSubmit={async (f) => (await api.assignAlert(id, String(f.get("owner")).trim()), reload())}>
          <Field label="Owner"><input name="owner" required maxLength={200} defaultValue={a.owner} /></Field>
        </Dialog>
      )}
      {open === "close" && (
        <Dialog title="Close the alert" submit="Close" onClose={close} onSubmit={async (f) => (await api.closeAlert(id, String(f.get("disposition")), String(f.get("comment")).trim()), reload())}>
          <Field label="Disposition">
            <select name="disposition" required defaultValue="">
              <option value="" disabled>choose one</option>
              {dispositions.map(([v, label]) => <option key={v} value={v}>{label}</option>)}
            </select>
          </Field>
          <Field label="Comment" hint="What you found and why that is the disposition. An auditor reads it."><textarea name="comment" required minLength={3} maxLength={2000} rows={4} /></Field>
        </Dialog>
      )}
    </article>
  );
}

type Row = Record<string, unknown>;
const str = (r: Row, ...names: string[]) => {
  for (const n of names) {
    const v = r[n];
    if (typeof v === "string" && v !== "") return v;
    if (typeof v === "number") return String(v);
  }
  return "";
};

function Steps({ title, rows }: { title: string; rows: Row[] }) {
  return (
    <section className="card">
      <h2>{title}</h2>
      <div className="wide">
        <table>
          <thead><tr><th>Time</th><th>Step</th><th>By</th><th>What</th><th>Entry</th></tr></thead>
          <tbody>
            {rows.map((r) => (
              <tr key={str(r, "id", "entry") || JSON.stringify(r)}>
                <td><Time value={str(r, "ts", "time", "at")} /></td>
                <td>{plain(str(r, "op"), 30)}</td>
                <td><Clip value={str(r, "by")} max={60} /></td>
                <td>
                  {str(r, "owner") && <>owner <Clip value={str(r, "owner")} max={60} />{str(r, "comment") && ": "}</>}
                  {str(r, "disposition") && <>{plain(str(r, "disposition"), 30).replaceAll("_", " ")}: </>}
                  <Text value={str(r, "comment")} max={400} />
                  {str(r, "op") === "repeated" && <span className="quiet">seen {str(r, "count")} times</span>}
                </td>
                <td>{str(r, "id", "entry") && <Link to={href(["events", str(r, "id", "entry")])}>open</Link>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Attempts({ rows }: { rows: Row[] }) {
  return (
    <section className="card">
      <h2>Notifications</h2>
      {rows.length === 0 && <p className="quiet">None was attempted. A policy's alerts name a receiver; the server's configuration says where it is.</p>}
      {rows.length > 0 && (
        <div className="wide">
          <table>
            <thead><tr><th>Time</th><th>Receiver</th><th>Via</th><th className="number">Attempt</th><th>Outcome</th><th>Answer</th><th className="number">Took</th></tr></thead>
            <tbody>
              {rows.map((r) => (
                <tr key={str(r, "id", "entry") || JSON.stringify(r)}>
                  <td><Time value={str(r, "ts", "time", "at")} /></td>
                  <td><Clip value={str(r, "receiver")} max={60} /></td>
                  <td>{plain(str(r, "via"), 20)}</td>
                  <td className="number">{str(r, "attempt")}</td>
                  <td>{str(r, "outcome") === "delivered" ? "delivered" : <span className="bad-word">{plain(str(r, "outcome"), 20).replaceAll("_", " ")}</span>}</td>
                  <td>{str(r, "status") && str(r, "status") !== "0" ? `${str(r, "status")} ` : ""}<Text value={str(r, "error")} max={200} /></td>
                  <td className="number">{str(r, "us") && micros(Number(str(r, "us")))}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

