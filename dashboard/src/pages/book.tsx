import { useEffect, useState } from "react";
import { api } from "../api";
import { parseCheckpoint, verifySignature } from "../merkle";
import { plain } from "../text";
import { count } from "../time";
import { Command, Copy, Facts, Failure, Text, useLoad, useTitle } from "../ui";

/** BookPage says which book this is, how long it is, and who signs it. */
export function BookPage() {
  useTitle("Book");
  const { data, error, reload } = useLoad(() => api.book(), [], 5000);
  const [signature, setSignature] = useState<string>("");
  const note = data?.checkpoint;
  const key = data?.key;
  useEffect(() => {
    if (!note || !key) return;
    let current = true;
    const say = (s: string) => current && setSignature(s);
    const run = async () => say((await verifySignature(parseCheckpoint(note), key)) ? "good" : "bad");
    run().catch((e: unknown) => say(e instanceof Error ? e.message : String(e)));
    return () => {
      current = false;
    };
  }, [note, key]);
  let sealed: number | undefined;
  try {
    sealed = note ? parseCheckpoint(note).size : undefined;
  } catch {
    sealed = undefined;
  }
  return (
    <>
      <header className="page-head"><h1>Book</h1></header>
      <Failure error={error} retry={reload} />
      {data && (
        <>
          <section className="card">
            <Facts
              rows={[
                ["Origin", <code key="o">{plain(data.origin, 200)}</code>],
                ["Entries", `${count(data.size)}${sealed === undefined ? "" : `, ${count(sealed)} sealed by the checkpoint below`}`],
                ["Key fingerprint", <><code key="f" className="hash">{plain(data.fingerprint, 200)}</code> <Copy text={data.fingerprint} what="the fingerprint" /></>],
                ["Verifier key", <><code key="k" className="hash">{plain(data.key, 300)}</code> <Copy text={data.key} what="the verifier key" /></>],
                [
                  "Signature",
                  signature === "good" ? <span key="s" className="good-word">checked in this browser: the checkpoint is signed by this key</span> : signature === "bad" ? <strong key="s" className="bad-word">the checkpoint is NOT signed by this key</strong> : <span key="s" className="quiet">{plain(signature || "checking…", 200)}</span>,
                ],
              ]}
            />
            <p className="hint">Keep the fingerprint somewhere that this server's operator does not control: on paper, in a ticket, in the auditor's files. It is what every proof and every package is checked against.</p>
          </section>
          <section className="card">
            <h2>Checkpoint <Copy text={data.checkpoint} what="the checkpoint" /></h2>
            {data.checkpoint ? <pre className="raw"><Text value={data.checkpoint} max={4000} lines /></pre> : <p className="quiet">The book has not been sealed yet; that happens within seconds of its first entries.</p>}
            <p className="hint">The number of entries and the root of the tree over them, signed (C2SP checkpoint). Whoever holds it can tell later whether anything before it was changed, moved or taken out.</p>
          </section>
          <section className="card">
            <h2>Check it yourself</h2>
            <p>Recompute the whole book from its raw bytes, on the server's machine or on a copy of its files:</p>
            <Command>{`guardbook book verify --trust '${data.key}'`}</Command>
            <p>The same book as C2SP tiles, for anyone's verifier: <code>/api/v1/book/checkpoint</code> and <code>/api/v1/book/tile/…</code></p>
          </section>
        </>
      )}
    </>
  );
}
