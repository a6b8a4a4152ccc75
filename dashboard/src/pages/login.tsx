import { type FormEvent, useEffect, useState } from "react";
import { api, type Session } from "../api";
import { navigate } from "../router";
import { Failure, Field, useTitle } from "../ui";

const minPassword = 12;

/** spent remembers the link's token so that it is used once, however often the page renders. */
let spent: { token: string; answer: Promise<Session> } | undefined;

/** focus puts the cursor into a control when it appears. */
const focus = (e: HTMLInputElement | null) => e?.focus();

/** LoginPage: the one-time link of the first start leads to the form for the admin account; later, name and password. */
export function LoginPage({ once, session, onLogin }: { once: string | undefined; session: Session | undefined; onLogin: (s: Session) => void }) {
  useTitle("Log in");
  const [step, setStep] = useState<"login" | "link" | "account">(once ? "link" : session?.account === false ? "account" : "login");
  const [error, setError] = useState<unknown>();
  const [busy, setBusy] = useState(false);

  useEffect(() => {
    if (session?.account === false) setStep("account");
  }, [session]);

  useEffect(() => {
    if (!once) return;
    // The token leaves the address bar and the history before anything else.
    navigate("/login", "replace");
    if (spent?.token !== once) spent = { token: once, answer: api.loginOnce(once) };
    spent.answer.then(
      (s) => (s.account === true ? onLogin(s) : setStep("account")),
      (e: unknown) => {
        setError(e);
        setStep("login");
      },
    );
  }, [once, onLogin]);

  const send = async (e: FormEvent<HTMLFormElement>) => {
    e.preventDefault();
    const f = new FormData(e.currentTarget);
    const name = String(f.get("name") ?? "").trim();
    const password = String(f.get("password") ?? "");
    setError(undefined);
    if (step === "account" && password !== String(f.get("again") ?? "")) {
      setError(new Error("The two passwords differ. Type the same one twice."));
      return;
    }
    setBusy(true);
    try {
      await (step === "account" ? api.createAccount(name, password) : api.login(name, password));
      const s = await api.session();
      onLogin({ ...s, account: true });
    } catch (err) {
      setError(err);
    } finally {
      setBusy(false);
    }
  };

  if (step === "link") return <main className="alone quiet" aria-busy="true">Opening your one-time link…</main>;
  const creating = step === "account";
  return (
    <main className="alone">
      <form className="card login" onSubmit={(e) => void send(e)}>
        <h1>{creating ? "Create your admin account" : "Log in to Guardbook"}</h1>
        {creating && <p>The one-time link has been used and works no more. From now on you log in with this name and password.</p>}
        <Failure error={error} />
        <Field label="Name">
          <input name="name" required autoComplete="username" maxLength={100} spellCheck={false} ref={focus} />
        </Field>
        <Field label="Password" hint={creating ? `At least ${minPassword} characters. It is stored as an Argon2id hash.` : undefined}>
          <input name="password" type="password" required minLength={creating ? minPassword : undefined} maxLength={1000} autoComplete={creating ? "new-password" : "current-password"} />
        </Field>
        {creating && (
          <Field label="Password again">
            <input name="again" type="password" required minLength={minPassword} maxLength={1000} autoComplete="new-password" />
          </Field>
        )}
        <div className="buttons">
          <button type="submit" className="primary" disabled={busy}>{creating ? "Create account" : "Log in"}</button>
        </div>
        {!creating && (
          <p className="hint">
            No account yet? The server prints a one-time login link when it starts for the first time; <code>guardbook login-link</code> makes another.
          </p>
        )}
      </form>
    </main>
  );
}
