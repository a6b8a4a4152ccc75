import { useState } from "react";
import { type Agent, api, type Containment } from "../api";
import { actions } from "../entry";
import { href, Link } from "../router";
import { plain } from "../text";
import { count } from "../time";
import { ActionBadge, Clip, Command, Dialog, Empty, Failure, Field, Time, useLoad, useTitle } from "../ui";
import { ContainmentNote, KillDialog } from "./kill";
import { threeLines } from "./timeline";

const perAgent = "agent:";

/** AgentsPage is the register, with what each agent did lately and the kill switch. */
export function AgentsPage() {
  useTitle("Agents");
  const agents = useLoad(() => api.agents(), [], 5000);
  const containments = useLoad(() => api.containments(), [], 1500);
  const [open, setOpen] = useState<{ what: "create" | "kill" } | { what: "kill-agent" | "rotate" | "remove"; agent: string }>();
  const [issued, setIssued] = useState<{ agent: string; key: string }>();
  const again = () => {
    agents.reload();
    containments.reload();
  };
  const close = () => setOpen(undefined);
  const held = containments.data ?? [];
  const others = held.filter((c) => !c.scope.startsWith(perAgent) || !(agents.data ?? []).some((a) => perAgent + a.agent === c.scope));
  const list = agents.data ?? [];
  return (
    <>
      <header className="page-head">
        <h1>Agents</h1>
        <div className="buttons">
          <button type="button" onClick={() => setOpen({ what: "kill" })}>Kill a session, tool or tenant…</button>
          <button type="button" className="primary" onClick={() => setOpen({ what: "create" })}>Create agent</button>
        </div>
      </header>
      <Failure error={agents.error ?? containments.error} retry={again} />
      {issued && <IssuedKey agent={issued.agent} secret={issued.key} onClose={() => setIssued(undefined)} />}
      {others.length > 0 && (
        <section className="card" aria-label="Other containments">
          <h2>Other containments in force</h2>
          {others.map((c) => (
            <div key={c.scope} className="other"><code><Clip value={c.scope} max={100} /></code><ContainmentNote c={c} onDone={again} /></div>
          ))}
        </section>
      )}
      {agents.data && list.length === 0 && (
        <Empty title="No agent is registered">
          <p>Create one here or on the command line; its key goes where the provider's key was.</p>
          <Command>guardbook agents create my-agent --owner you@example.com</Command>
          <p><button type="button" className="primary" onClick={() => setOpen({ what: "create" })}>Create agent</button></p>
        </Empty>
      )}
      {list.length > 0 && (
        <div className="wide">
          <table className="agents">
            <thead><tr><th>Agent</th><th>Owner, purpose</th><th>Last seen</th><th>Decisions, 24 h</th><th>Policy</th><th><span className="sr">Actions</span></th></tr></thead>
            <tbody>
              {list.map((a) => (
                <AgentRow
                  key={a.agent}
                  agent={a}
                  containment={held.find((c) => c.scope === perAgent + a.agent)}
                  onOpen={(what) => setOpen({ what, agent: a.agent })}
                  onDone={again}
                />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {open?.what === "create" && (
        <Dialog
          title="Create an agent"
          submit="Create"
          onClose={close}
          onSubmit={async (f) => {
            const name = String(f.get("name")).trim();
            const r = await api.createAgent(name, String(f.get("owner")).trim(), String(f.get("purpose")).trim());
            setIssued({ agent: name, key: r.key });
            again();
          }}
        >
          <Field label="Name" hint="Lower-case letters, digits, dots and dashes; policies name it."><input name="name" required maxLength={63} autoComplete="off" spellCheck={false} /></Field>
          <Field label="Owner" hint="Who answers for it; an e-mail address."><input name="owner" maxLength={200} autoComplete="off" /></Field>
          <Field label="Purpose" hint="One sentence an auditor will read."><input name="purpose" maxLength={500} autoComplete="off" /></Field>
        </Dialog>
      )}
      {open?.what === "kill" && <KillDialog onClose={close} onDone={again} />}
      {open?.what === "kill-agent" && <KillDialog scope={perAgent + open.agent} onClose={close} onDone={again} />}
      {open?.what === "rotate" && (
        <Dialog
          title={<>Rotate the key of <Clip value={open.agent} max={80} /></>}
          submit="Rotate"
          onClose={close}
          onSubmit={async () => {
            setIssued({ agent: open.agent, key: (await api.rotateAgent(open.agent)).key });
            again();
          }}
        >
          <p>The agent's key stops working at once, and a new one is shown once. Calls with the old key are refused from then on.</p>
        </Dialog>
      )}
      {open?.what === "remove" && (
        <Dialog
          title={<>Remove <Clip value={open.agent} max={80} /></>}
          submit="Remove"
          danger
          onClose={close}
          onSubmit={async () => {
            await api.removeAgent(open.agent);
            again();
          }}
        >
          <p>Its key stops working at once. What it did stays in the book.</p>
        </Dialog>
      )}
    </>
  );
}

function AgentRow({ agent: a, containment, onOpen, onDone }: {
  agent: Agent;
  containment: Containment | undefined;
  onOpen: (what: "kill-agent" | "rotate" | "remove") => void;
  onDone: () => void;
}) {
  const total = actions.filter((x) => a.decisions?.[x]);
  const name = plain(a.agent, 80);
  return (
    <>
      <tr className={containment ? "held" : undefined} data-agent={name}>
        <td>
          <Link to={href([""], { agent: a.agent })} className="name"><Clip value={a.agent} max={60} /></Link>
          <div className="hint">{a.keyless ? <strong className="bad-word">no key: rotate it</strong> : a.key && <>key {plain(a.key, 24)}</>}</div>
        </td>
        <td><Clip value={a.owner} max={80} />{!a.owner && <span className="quiet">no owner</span>}<div className="hint"><Clip value={a.purpose} max={160} /></div></td>
        <td>{a.last_seen ? <Time value={a.last_seen} relative /> : <span className="quiet">never</span>}</td>
        <td>
          {total.length === 0 && <span className="quiet">none</span>}
          <span className="tallies">{total.map((x) => <Link key={x} to={href([""], { agent: a.agent, action: x })}><ActionBadge action={x} /> {count(a.decisions?.[x] ?? 0)}</Link>)}</span>
        </td>
        <td>{a.policy ? <><Clip value={a.policy} max={60} /><div className="hint">{plain(a.mode ?? "", 20)}</div></> : <span className="bad-word">none: everything is blocked</span>}</td>
        <td className="actions">
          {!containment && <button type="button" className="danger small" onClick={() => onOpen("kill-agent")} aria-label={`Kill ${name}`}>Kill</button>}
          <button type="button" className="small" onClick={() => onOpen("rotate")} aria-label={`Rotate the key of ${name}`}>Rotate</button>
          <button type="button" className="small" onClick={() => onOpen("remove")} aria-label={`Remove ${name}`}>Remove</button>
        </td>
      </tr>
      {containment && <tr className="held detail"><td colSpan={6}><ContainmentNote c={containment} onDone={onDone} /></td></tr>}
    </>
  );
}

/** IssuedKey shows a new key once, with the lines that put it to use. */
function IssuedKey({ agent, secret, onClose }: { agent: string; secret: string; onClose: () => void }) {
  const origin = location.origin;
  return (
    <section className="card issued" aria-label="New key" role="status">
      <h2>The key of <Clip value={agent} max={80} /></h2>
      <p><strong>It is shown this once and is not stored in a readable form.</strong> Put it where the agent runs.</p>
      <Command>{secret}</Command>
      <h3>OpenAI and Anthropic SDKs: three lines</h3>
      <Command>{threeLines(origin, secret)}</Command>
      <h3>Anything else: ask before you act</h3>
      <Command>{`curl ${origin}/v1/inspect -H "X-Guardbook-Key: ${secret}" -H "Content-Type: application/json" \\\n  -d '{"kind":"input","session":"s-1","content":"hello"}'`}</Command>
      <div className="buttons"><button type="button" onClick={onClose}>I have stored it</button></div>
    </section>
  );
}
