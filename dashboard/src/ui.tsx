// The small pieces that every page is made of.

import { cloneElement, type FormEvent, Fragment, type ReactElement, type ReactNode, useCallback, useEffect, useId, useRef, useState } from "react";
import { type Action, actions, type Severity, severities } from "./entry";
import { clip, pieces, plain } from "./text";
import { ago, clock, full, parseTime } from "./time";

/** Text shows a string from outside: as text only, invisible characters as codes, cut at max with a button for the rest. */
export function Text({ value, max = 300, lines = false }: { value: string | undefined; max?: number; lines?: boolean }) {
  const [limit, setLimit] = useState(max);
  if (!value) return null;
  const { head, rest } = clip(value, limit);
  return (
    <>
      <bdi className={lines ? "agent-text lines" : "agent-text"}>
        {pieces(head, lines).map((p, i) =>
          // The pieces of one string never change places.
          // oxlint-disable-next-line react/no-array-index-key
          "text" in p ? <Fragment key={i}>{p.text}</Fragment> : <span key={i} className="code-point" title={`${p.name} (${p.code})`}>{p.code}</span>,
        )}
        {rest > 0 && "…"}
      </bdi>
      {rest > 0 && (
        <button type="button" className="more" onClick={() => setLimit(limit + 20_000)}>
          show {rest > 20_000 ? "20000 more of" : "all"} {value.length} characters
        </button>
      )}
    </>
  );
}

/** Clip is Text for one line of a table: cut, with the whole (made visible) in the title, and no button. */
export function Clip({ value, max = 160 }: { value: string | undefined; max?: number }) {
  if (!value) return null;
  const { head, rest } = clip(value, max);
  return (
    <bdi className="agent-text" title={plain(value, 600)}>
      {pieces(head).map((p, i) =>
        // oxlint-disable-next-line react/no-array-index-key
        "text" in p ? <Fragment key={i}>{p.text}</Fragment> : <span key={i} className="code-point">{p.code}</span>,
      )}
      {rest > 0 && "…"}
    </bdi>
  );
}

/** Time shows a moment in the reader's zone, with UTC in its title. */
export function Time({ value, relative = false }: { value: string | undefined; relative?: boolean }) {
  const d = parseTime(value);
  if (!d) return <span className="quiet">{value ? plain(value, 40) : "–"}</span>;
  return (
    <time dateTime={d.toISOString()} title={`${value} (UTC)\n${full(d)}`}>
      {relative ? `${ago(d)} ago` : clock(d)}
    </time>
  );
}

const actionShapes: Record<Action, ReactNode> = {
  allow: <path d="M3 8.5l3.2 3.2L13 4.8" fill="none" stroke="currentColor" strokeWidth="2.2" />,
  log: <circle cx="8" cy="8" r="3" />,
  flag: <path d="M4 2v12h1.6V9.5L13 6 5.6 2.6V2z" />,
  redact: <path d="M1.5 5.5h13v5h-13z" />,
  hold: <path d="M4 3h3v10H4zM9 3h3v10H9z" />,
  block: <path d="M8 1a7 7 0 100 14A7 7 0 008 1zm-4.6 5.9h9.2v2.2H3.4z" fillRule="evenodd" />,
};

/** ActionBadge names a decision by shape, word and colour. */
export function ActionBadge({ action, would }: { action: string; would?: string | undefined }) {
  const known = actions.includes(action as Action) ? (action as Action) : undefined;
  return (
    <span className={`badge action-${known ?? "log"}`}>
      <svg viewBox="0 0 16 16" aria-hidden="true">{known && actionShapes[known]}</svg>
      {known ?? plain(action, 20)}
      {would && <span className="would" title={`monitor mode: enforce would ${plain(would, 20)}`}>({plain(would, 20)})</span>}
    </span>
  );
}

const severityShapes: Record<Severity, ReactNode> = {
  info: <circle cx="8" cy="8" r="4.5" fill="none" stroke="currentColor" strokeWidth="1.6" />,
  low: <circle cx="8" cy="8" r="4.5" />,
  medium: <path d="M8 1.8L14.2 8 8 14.2 1.8 8z" />,
  high: <path d="M8 1.5L15 14H1z" />,
  critical: <path d="M5 1h6l4 4v6l-4 4H5l-4-4V5zm2 3v5h2V4zm0 6v2h2v-2z" fillRule="evenodd" />,
};

/** SeverityMark names a severity by shape and colour, and by word unless it is short of room. */
export function SeverityMark({ severity, word = true }: { severity: string; word?: boolean }) {
  const known = severities.includes(severity as Severity) ? (severity as Severity) : "info";
  return (
    <span className={`severity severity-${known}`} title={word ? undefined : `severity ${known}`}>
      <svg viewBox="0 0 16 16" aria-hidden={word} role={word ? undefined : "img"} aria-label={word ? undefined : `severity ${known}`}>
        {severityShapes[known]}
      </svg>
      {word && known}
    </span>
  );
}

/** Copy puts a text on the clipboard. */
export function Copy({ text, what }: { text: string; what: string }) {
  const [said, setSaid] = useState("");
  useEffect(() => {
    if (!said) return;
    const t = setTimeout(() => setSaid(""), 2000);
    return () => clearTimeout(t);
  }, [said]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("copied");
    } catch {
      setSaid("not allowed here: select and copy by hand");
    }
  };
  return (
    <button type="button" className="small" onClick={() => void copy()} aria-label={`copy ${what}`}>
      <span aria-live="polite">{said || "copy"}</span>
    </button>
  );
}

/** Command shows a command line with its copy button. */
export function Command({ children }: { children: string }) {
  return (
    <div className="command">
      <pre><code>{children}</code></pre>
      <Copy text={children} what="the command" />
    </div>
  );
}

export function Failure({ error, retry }: { error: unknown; retry?: (() => void) | undefined }) {
  if (!error) return null;
  return (
    <div className="note failure" role="alert">
      <strong>That did not work.</strong> <Text value={error instanceof Error ? error.message : String(error)} max={1000} lines />
      {retry && <button type="button" className="small" onClick={retry}>Try again</button>}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** Facts is a list of names and values. An empty value is left out. */
export function Facts({ rows, pairs = false }: { rows: [string, ReactNode][]; pairs?: boolean }) {
  return (
    <dl className={pairs ? "facts pairs" : "facts"}>
      {rows.map(([name, value]) =>
        value === undefined || value === null || value === "" ? null : (
          <Fragment key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </Fragment>
        ),
      )}
    </dl>
  );
}

/** Dialog is a modal form. What onSubmit throws is shown in it; when it returns, the dialog closes. */
export function Dialog({ title, submit, danger = false, onSubmit, onClose, children }: {
  title: ReactNode;
  submit: string;
  danger?: boolean;
  onSubmit: (data: FormData) => Promise<void>;
  onClose: () => void;
  children: ReactNode;
}) {
  const ref = useRef<HTMLDialogElement>(null);
  const [error, setError] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const id = useId();
  useEffect(() => {
    const d = ref.current;
    if (d && !d.open) d.showModal();
  }, []);
  const send = async (e: FormEvent<HTMLFormElement>) => {
    e.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await onSubmit(new FormData(e.currentTarget));
      onClose();
    } catch (err) {
      setError(err);
    } finally {
      setBusy(false);
    }
  };
  return (
    <dialog ref={ref} aria-labelledby={id} onClose={onClose}>
      <form onSubmit={(e) => void send(e)}>
        <h2 id={id}>{title}</h2>
        {children}
        <Failure error={error} />
        <div className="buttons">
          <button type="button" onClick={() => ref.current?.close()}>Cancel</button>
          <button type="submit" className={danger ? "danger" : "primary"} disabled={busy}>{submit}</button>
        </div>
      </form>
    </dialog>
  );
}

/** Field is a control with its label, and a hint that describes it. */
export function Field({ label, hint, children }: { label: string; hint?: ReactNode; children: ReactElement<{ "aria-describedby"?: string }> }) {
  const id = useId();
  return (
    <div className="field">
      {/* The control is the child. */}
      {/* oxlint-disable-next-line jsx-a11y/label-has-associated-control */}
      <label>
        <span className="label">{label}</span>
        {hint ? cloneElement(children, { "aria-describedby": id }) : children}
      </label>
      {hint && <span className="hint" id={id}>{hint}</span>}
    </div>
  );
}

export interface Loaded<T> {
  data: T | undefined;
  error: unknown;
  reload: () => void;
}

/** useLoad reads something, again whenever a key changes or reload is called, and every `every` milliseconds while the page is visible. Old data stays on the screen when a later read fails. */
export function useLoad<T>(read: () => Promise<T>, keys: readonly unknown[], every?: number): Loaded<T> {
  const [state, setState] = useState<{ data: T | undefined; error: unknown }>({ data: undefined, error: undefined });
  const current = useRef(read);
  current.current = read;
  const turn = useRef(0);
  const reload = useCallback(() => {
    const mine = ++turn.current;
    current.current().then(
      (data) => {
        if (mine === turn.current) setState({ data, error: undefined });
      },
      (error: unknown) => {
        if (mine === turn.current) setState((s) => ({ data: s.data, error }));
      },
    );
  }, []);
  const key = JSON.stringify(keys);
  useEffect(() => {
    setState({ data: undefined, error: undefined });
    reload();
    const turns = turn;
    return () => {
      turns.current++; // an answer that is still under way is no longer wanted
    };
  }, [key, reload]);
  useEffect(() => {
    if (!every) return;
    const t = setInterval(() => {
      if (!document.hidden) reload();
    }, every);
    return () => clearInterval(t);
  }, [every, reload]);
  return { ...state, reload };
}

/** useMedia follows a media query. */
export function useMedia(query: string): boolean {
  const [matches, set] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const m = matchMedia(query);
    const f = () => set(m.matches);
    f();
    m.addEventListener("change", f);
    return () => m.removeEventListener("change", f);
  }, [query]);
  return matches;
}

/** useTitle names the browser's tab. */
export function useTitle(title: string) {
  useEffect(() => {
    document.title = title ? `${plain(title, 60)} · Guardbook` : "Guardbook";
  }, [title]);
}
