import { useState } from "react";
import { api, type Containment } from "../api";
import { href, Link } from "../router";
import { plain } from "../text";
import { count } from "../time";
import { Clip, Dialog, Field, Text, Time } from "../ui";

const durations: [string, string][] = [
  ["", "until it is lifted"],
  ["15m", "15 minutes"],
  ["1h", "1 hour"],
  ["8h", "8 hours"],
  ["24h", "24 hours"],
  ["168h", "7 days"],
];

const scopes = ["agent", "session", "tool", "tenant"] as const;

/** KillDialog asks why, and how long. Without a scope it asks for that, too. */
export function KillDialog({ scope, onClose, onDone }: { scope?: string; onClose: () => void; onDone?: () => void }) {
  return (
    <Dialog
      title={scope ? <>Kill <Clip value={scope} max={80} /></> : "Kill an agent, session, tool or tenant"}
      submit="Kill"
      danger
      onClose={onClose}
      onSubmit={async (f) => {
        const target = scope ?? `${String(f.get("kind"))}:${String(f.get("name")).trim()}`;
        await api.kill(target, String(f.get("reason")).trim(), String(f.get("for")));
        onDone?.();
      }}
    >
      <p>It gets nothing more: new calls are refused, and streams that are running are cut. Everything else goes on. You, your reason and the time go into the book.</p>
      {!scope && (
        <div className="two">
          <Field label="What"><select name="kind">{scopes.map((s) => <option key={s}>{s}</option>)}</select></Field>
          <Field label="Name or id"><input name="name" required maxLength={300} autoComplete="off" spellCheck={false} /></Field>
        </div>
      )}
      <Field label="Reason"><textarea name="reason" required minLength={3} maxLength={1000} rows={3} /></Field>
      <Field label="For">
        <select name="for">{durations.map(([v, label]) => <option key={v} value={v}>{label}</option>)}</select>
      </Field>
    </Dialog>
  );
}

export function LiftDialog({ scope, onClose, onDone }: { scope: string; onClose: () => void; onDone?: () => void }) {
  return (
    <Dialog
      title={<>Lift the containment of <Clip value={scope} max={80} /></>}
      submit="Lift"
      onClose={onClose}
      onSubmit={async (f) => {
        await api.lift(scope, String(f.get("reason")).trim());
        onDone?.();
      }}
    >
      <p>New calls are decided on again by policy and detectors.</p>
      <Field label="Reason"><textarea name="reason" required minLength={3} maxLength={1000} rows={3} /></Field>
    </Dialog>
  );
}

/** ContainmentNote tells of a kill that is in force: why, since when, and what it stopped. */
export function ContainmentNote({ c, onDone }: { c: Containment; onDone: () => void }) {
  const [lifting, setLifting] = useState(false);
  return (
    <div className="containment" data-testid="containment" data-scope={plain(c.scope, 200)}>
      <div>
        <strong>Contained</strong> since <Time value={c.effective_at} /> by {plain(c.by, 60)}
        {c.until && <>, until <Time value={c.until} /></>}: <Text value={c.reason} max={200} />
      </div>
      <div className="effect" aria-live="polite">
        <b data-testid="refused">{count(c.refused)}</b> {c.refused === 1 ? "attempt" : "attempts"} refused since,{" "}
        <b data-testid="cut">{count(c.cut)}</b> running {c.cut === 1 ? "stream" : "streams"} cut
        {c.recorded === false && <span className="bad-word"> – in force, but its entry is not in the book yet</span>}
      </div>
      <div className="buttons">
        {c.containment && <Link className="button small" to={href(["events", c.containment])}>Its entry</Link>}
        <button type="button" className="small" onClick={() => setLifting(true)}>Lift</button>
      </div>
      {lifting && <LiftDialog scope={c.scope} onClose={() => setLifting(false)} onDone={onDone} />}
    </div>
  );
}
