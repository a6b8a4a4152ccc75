import { api } from "../api";
import { text } from "../entry";
import { href, Link } from "../router";
import { plain } from "../text";
import { Clip, Command, Copy, Empty, Failure, Text, Time, useLoad, useTitle } from "../ui";

/** PoliciesPage shows the bundle in force, its texts, and every attempt to load one. */
export function PoliciesPage() {
  useTitle("Policies");
  const { data, error, reload } = useLoad(() => api.policies(), [], 5000);
  const loads = useLoad(() => api.events({ type: "policy", limit: 100, order: "desc" }), [], 5000);
  return (
    <>
      <header className="page-head"><h1>Policies</h1></header>
      <Failure error={error} retry={reload} />
      {data && (
        <section className="card">
          <h2>Bundle in force</h2>
          <p><code className="hash">{plain(data.bundle, 100)}</code> <Copy text={data.bundle} what="the bundle's hash" /></p>
          <p className="hint">The hash of all policies as they are now. Every decision carries the one it was made under. Policies are files: edit them in the server's policies directory; a file that cannot be read never replaces one that can.</p>
        </section>
      )}
      {data && data.policies.length === 0 && (
        <Empty title="No policy is in force: everything is blocked">
          <p>Put a file into the server's policies directory, and check it first:</p>
          <Command>guardbook policy lint my-policy.yaml</Command>
        </Empty>
      )}
      {data?.policies.map((p) => (
        <details className="card policy" key={p.policy} open={data.policies.length === 1}>
          <summary>
            <strong><Clip value={p.policy} max={80} /></strong> <span className={p.mode === "monitor" ? "pill warn" : "pill"}>{plain(p.mode, 20)}</span>
            <span className="quiet"> for <Clip value={p.agents.join(", ")} max={120} />{p.owner && <>, owner <Clip value={p.owner} max={80} /></>}, {plain(p.file, 120)}</span>
          </summary>
          <ol className="source" tabIndex={0} aria-label={`text of ${plain(p.policy, 80)}`}>
            {p.text.replace(/\n$/, "").split("\n").map((line, i) => (
              // Lines of a fixed text.
              // oxlint-disable-next-line react/no-array-index-key
              <li key={i}><Text value={line || " "} max={400} lines /></li>
            ))}
          </ol>
        </details>
      ))}
      <section className="card">
        <h2>Loads</h2>
        <Failure error={loads.error} retry={loads.reload} />
        <div className="wide">
          <table>
            <thead><tr><th>Time</th><th>Trigger</th><th>Outcome</th><th>In force after it</th><th>Entry</th></tr></thead>
            <tbody>
              {(loads.data ?? []).map((e) => (
                <tr key={e.id}>
                  <td><Time value={e.ts} /></td>
                  <td>{plain(text(e, "trigger"), 30).replaceAll("_", " ")}</td>
                  <td>
                    {text(e, "outcome") === "rejected" ? <span className="bad-word">rejected</span> : plain(text(e, "outcome"), 20)}
                    {text(e, "error") && <pre className="caret"><Text value={text(e, "error")} max={1200} lines /></pre>}
                  </td>
                  <td><code className="hash short" title={plain(text(e, "bundle"), 90)}>{plain(text(e, "bundle"), 90).slice(0, 19)}</code></td>
                  <td><Link to={href(["events", e.id])}>open</Link></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </section>
    </>
  );
}
