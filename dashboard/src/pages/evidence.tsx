import { type FormEvent, useEffect, useState } from "react";
import { api } from "../api";
import { hex, sha256 } from "../merkle";
import { plain } from "../text";
import { bytes, count, day } from "../time";
import { Command, Copy, Facts, Failure, Field, useLoad, useTitle } from "../ui";
import { contents, type ZipFile } from "../zip";

interface Package {
  name: string;
  url: string;
  size: number;
  hash: string;
  files: ZipFile[];
}

/** back is the local midnight that began so many days ago. */
function back(days: number): Date {
  const d = new Date();
  d.setHours(0, 0, 0, 0);
  d.setDate(d.getDate() - days);
  return d;
}

const field = (d: Date) => `${day(d)}T${String(d.getHours()).padStart(2, "0")}:${String(d.getMinutes()).padStart(2, "0")}`;

/** EvidencePage builds the package that an auditor takes away. */
export function EvidencePage() {
  useTitle("Evidence");
  const book = useLoad(() => api.book(), []);
  const [from, setFrom] = useState(field(back(30)));
  const [to, setTo] = useState(field(new Date(Math.ceil((Date.now() + 1) / 60_000) * 60_000)));
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const [made, setMade] = useState<Package>();
  useEffect(() => () => {
    if (made) URL.revokeObjectURL(made.url);
  }, [made]);

  const build = async (e: FormEvent) => {
    e.preventDefault();
    setBusy(true);
    setError(undefined);
    setMade(undefined);
    try {
      const [f, t] = [new Date(from), new Date(to)];
      if (!(f < t)) throw new Error("The period ends before it begins. Choose a later end.");
      const blob = await api.evidence(f.toISOString(), t.toISOString());
      const data = new Uint8Array(await blob.arrayBuffer());
      setMade({
        name: `guardbook-evidence-${day(f)}-${day(t)}.zip`,
        url: URL.createObjectURL(blob),
        size: data.length,
        hash: hex(await sha256(data)),
        files: contents(data),
      });
    } catch (err) {
      setError(err);
    } finally {
      setBusy(false);
    }
  };
  const last = (days: number) => () => {
    setFrom(field(back(days)));
    setTo(field(new Date(Math.ceil((Date.now() + 1) / 60_000) * 60_000)));
  };
  return (
    <>
      <header className="page-head"><h1>Evidence</h1></header>
      <section className="card">
        <p>A package for an auditor: the populations of the period with their completeness, the exceptions, the policies that were in force, checkpoints and proofs. It states facts and leaves the results blank. It verifies offline, without this server.</p>
        <form className="period" onSubmit={(e) => void build(e)}>
          <Field label="From"><input type="datetime-local" required value={from} onChange={(e) => setFrom(e.target.value)} /></Field>
          <Field label="To"><input type="datetime-local" required value={to} onChange={(e) => setTo(e.target.value)} /></Field>
          <div className="buttons">
            <button type="button" className="small" onClick={last(1)}>Since yesterday</button>
            <button type="button" className="small" onClick={last(7)}>7 days</button>
            <button type="button" className="small" onClick={last(30)}>30 days</button>
            <button type="button" className="small" onClick={last(90)}>90 days</button>
            <button type="submit" className="primary" disabled={busy}>{busy ? "Building…" : "Build package"}</button>
          </div>
        </form>
        <Failure error={error} />
      </section>
      {made && (
        <section className="card" aria-label="Package">
          <h2>{made.name}</h2>
          <Facts
            rows={[
              ["Size", `${bytes(made.size)}, ${count(made.files.length)} files`],
              ["SHA-256", <><code key="h" className="hash">{made.hash}</code> <Copy text={made.hash} what="the hash" /></>],
            ]}
          />
          <p><a className="button primary" href={made.url} download={made.name}>Download</a></p>
          <p className="hint">Verify it, packed or unpacked, on any machine; the key comes from you, not from the package:</p>
          <Command>{`guardbook evidence verify ${made.name} --trust '${book.data?.key ?? "KEY"}'`}</Command>
          <h3>What is in it</h3>
          <Tree files={made.files} />
        </section>
      )}
    </>
  );
}

function Tree({ files }: { files: ZipFile[] }) {
  // All files lie in one folder, named for the period: it is said once.
  const top = files[0]?.name.slice(0, files[0].name.indexOf("/") + 1) ?? "";
  const root = files.every((f) => f.name.startsWith(top)) ? top : "";
  const groups = new Map<string, ZipFile[]>();
  for (const f of files) {
    const folder = f.name.slice(0, f.name.lastIndexOf("/") + 1);
    groups.set(folder, [...(groups.get(folder) ?? []), f]);
  }
  return (
    <div className="tree">
      {[...groups].toSorted(([a], [b]) => a.localeCompare(b)).map(([folder, list]) => (
        <details key={folder} open={list.length <= 20}>
          <summary>{plain(folder.slice(root.length) || folder || "(top)", 200)} <span className="quiet">{count(list.length)} {list.length === 1 ? "file" : "files"}, {bytes(list.reduce((n, f) => n + f.size, 0))}</span></summary>
          <table>
            <tbody>
              {list.slice(0, 500).map((f) => (
                <tr key={f.name}><td>{plain(f.name.slice(folder.length), 200)}</td><td className="number">{bytes(f.size)}</td></tr>
              ))}
            </tbody>
          </table>
          {list.length > 500 && <p className="quiet">and {count(list.length - 500)} more</p>}
        </details>
      ))}
    </div>
  );
}
