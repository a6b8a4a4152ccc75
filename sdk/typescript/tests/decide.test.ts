import { denies, Guard, GuardBlocked, GuardError, GuardUnavailable } from "guardbook";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { folder, injection, mail, TestServer } from "./server.js";

let server: TestServer;
let guard: Guard;
let key: string;

beforeAll(async () => {
  server = await TestServer.start();
  key = server.agent();
  guard = new Guard({ agent: "billing-bot", url: server.url, key, data: folder(), budgetMs: 5000 });
});
afterAll(async () => {
  await guard.close();
  await server.kill();
});

describe("decisions", () => {
  test("are obeyed by kind", async () => {
    expect((await guard.decide({ kind: "input", content: "Hello there." })).decision).toBe("allow");
    const d = await guard.decide({ kind: "tool_call", tool: { name: "drop_table", arguments: { name: "x" } } });
    expect(d.decision).toBe("block");
    expect(denies(d)).toBe(true);
    expect(d.message).toContain("drop_table");
    const redacted = await guard.decide({
      kind: "tool_call",
      tool: { name: "send_email", arguments: { to: "x", body: `Ask ${mail}.` } },
    });
    expect(redacted.arguments).toEqual({ to: "x", body: "Ask [REDACTED:pii]." });
    const parts = await guard.decide({
      kind: "output",
      content: [{ type: "image" }, { type: "text", text: `Ask ${mail}.` }],
    });
    expect(parts.content).toEqual([{ type: "image" }, { type: "text", text: "Ask [REDACTED:pii]." }]);
  });

  test("come in order for many", async () => {
    const ds = await guard.decideAll([
      { kind: "input", content: "Hello." },
      { kind: "tool_call", tool: { name: "drop_table" } },
      { kind: "output", content: "Bye." },
    ]);
    expect(ds.map((d) => d.decision)).toEqual(["allow", "block", "allow"]);
  });

  test("of texts: redacted ones come back, blocked ones throw with everything", async () => {
    expect(await guard.text("output", `Ask ${mail}.`)).toBe("Ask [REDACTED:pii].");
    const err = await guard.text("input", injection).catch((e: unknown) => e);
    expect(err).toBeInstanceOf(GuardBlocked);
    expect(err).toBeInstanceOf(GuardError);
    expect(err).not.toBeInstanceOf(GuardUnavailable);
    const blocked = err as GuardBlocked;
    expect(blocked.rule).toBe("billing-bot/findings/prompt_injection");
    expect(blocked.entry).toMatch(/^[0-9a-f-]{36}$/);
    expect(blocked.severity).toBe("critical");
    expect(blocked.findings.length).toBeGreaterThan(0);
    expect(blocked.retryable).toBe(false);
  });

  test("of tools are verdicts", async () => {
    const no = await guard.toolCall({ name: "drop_table", arguments: {} });
    expect(no.allowed).toBe(false);
    if (!no.allowed) {
      expect(no.message).toContain("drop_table");
      expect(no.error).toBeInstanceOf(GuardBlocked);
    }
    const yes = await guard.toolCall({ name: "send_email", arguments: { to: "x", body: mail } });
    expect(yes.allowed && yes.value).toEqual({ to: "x", body: "[REDACTED:pii]" });
    const result = await guard.toolResult({ name: "get_time" }, injection, { context: "What time is it?" });
    expect(result.allowed).toBe(false);
  });

  test("guard a function: it does not run when denied, and its result is read", async () => {
    const calls: unknown[] = [];
    const mailer = guard.tool("send_email", (a: { to: string; body: string }) => {
      calls.push(a);
      return { said: `sent to ${mail}` };
    });
    expect(await mailer({ to: "x", body: `Ask ${mail}.` })).toEqual({ said: "sent to [REDACTED:pii]" });
    expect(calls).toEqual([{ to: "x", body: "Ask [REDACTED:pii]." }]);
    await expect(guard.tool("drop_table", () => calls.push("ran"))({})).rejects.toBeInstanceOf(GuardBlocked);
    expect(calls).toHaveLength(1);
  });

  test("name client, number, session, user and entry path in the book", async () => {
    await guard.session("s-outer", async () => {
      await guard.decide({ kind: "input", content: "a", thread: "t-1" });
      await guard.session({ user: "u-ä" }, () => guard.decide({ kind: "input", content: "b", via: "typescript/mine" }));
      await guard.decide({ kind: "input", content: "c", session: "s-named" });
    });
    await guard.decide({ kind: "input", content: "d", thread: "t-1" });
    await guard.decide({ kind: "input", content: "e", thread: "line\nbreak" });
    const es = server
      .book()
      .filter((e) => e.client === guard.client)
      .slice(-5);
    expect(es.map((e) => e.session)).toEqual([
      "s-outer",
      "s-outer",
      "s-named",
      "t-1",
      expect.stringMatching(/^sha256:/),
    ]);
    expect(es[1]).toMatchObject({ user: "u-ä", path: "inspect/typescript/mine" });
    const seqs = es.map((e) => e.client_seq ?? 0);
    expect(seqs).toEqual(seqs.map((_, i) => (seqs[0] ?? 0) + i));
  });

  test("are made for hostile texts as for others", async () => {
    for (const content of ["\ud800 half a pair", "\u0000\u001b[2J", "\u2028", "", "x".repeat(100_000)]) {
      expect((await guard.decide({ kind: "input", content })).entry).not.toBe("");
    }
    const args = JSON.parse('{"query": "\\ud800", "__proto__": {"a": 1}}') as Record<string, unknown>;
    expect(
      (await guard.decide({ kind: "tool_call", tool: { name: "query_database", arguments: args } })).entry,
    ).not.toBe("");
  });

  test("for a burst go together, each to who asked, and a bad one harms no other", async () => {
    const g = new Guard({ url: server.url, key, data: folder(), budgetMs: 10_000 });
    await g.start();
    const c = new AbortController();
    const asked = Array.from({ length: 600 }, (_, i) => {
      if (i === 100) return g.decide({ kind: "output", content: [{ type: "" }] });
      if (i === 200) return g.decide({ kind: "input", content: "x", signal: c.signal });
      if (i % 3 === 0) return g.decide({ kind: "tool_call", tool: { name: "drop_table", arguments: { i } } });
      return g.decide({ kind: "output", content: `Number ${i}: ${mail}` });
    });
    c.abort(new Error("enough"));
    const done = await Promise.allSettled(asked);
    done.forEach((r, i) => {
      if (i === 100)
        expect(r).toMatchObject({
          status: "rejected",
          reason: { message: expect.stringContaining("type is required") },
        });
      else if (i === 200) expect(r).toMatchObject({ status: "rejected", reason: { message: "enough" } });
      else if (i % 3 === 0) expect(r).toMatchObject({ status: "fulfilled", value: { decision: "block" } });
      else expect(r).toMatchObject({ status: "fulfilled", value: { content: `Number ${i}: [REDACTED:pii]` } });
    });
    expect(await g.flush()).toBe(true);
    const told = new Set(
      server
        .book()
        .filter((e) => e.client === g.client && e.client_seq)
        .map((e) => e.client_seq),
    );
    expect(told.size).toBe(600);
    await g.close();
  });

  test("in monitor mode block nothing", async () => {
    const monitor = await TestServer.start({
      policy: "policy: m\nversion: 1\nowner: a@example.com\nagents: ['*']\nmode: monitor\ntools: []\n",
    });
    const g = new Guard({ url: monitor.url, key: monitor.agent("m"), data: folder(), budgetMs: 5000 });
    const d = await g.decide({ kind: "tool_call", tool: { name: "drop_table" } });
    expect(d).toMatchObject({ decision: expect.not.stringMatching(/block/) as string, would: "block" });
    expect((await g.toolCall({ name: "drop_table" })).allowed).toBe(true);
    await g.close();
    await monitor.kill();
  });

  test("are not asked for what is no interaction, and a number is not spent on it", async () => {
    const g = new Guard({ url: server.url, key, data: folder(), budgetMs: 5000 });
    const bad: [unknown, string][] = [
      [{ kind: "thought", content: "x" }, "kind must be one of input"],
      [{ kind: "input" }, "needs content"],
      [{ kind: "tool_call" }, "needs tool.name"],
      [{ kind: "input", content: "x", via: "Nope" }, "via must be"],
      [{ kind: "input", content: null }, "content must be a string or a list of parts"],
      [{ kind: "input", content: "x", session: "a\nb" }, "session must be printable"],
      [{ kind: "tool_call", tool: { name: "x", arguments: { n: 1n } } }, "BigInt"],
    ];
    for (const [i, message] of bad) await expect(g.decide(i as never)).rejects.toThrow(message);
    await g.decide({ kind: "input", content: "x" });
    expect(
      server
        .book()
        .filter((e) => e.client === g.client)
        .map((e) => e.client_seq),
    ).toEqual([1]);
    await g.close();
  });

  test("a wrong key is an error of its own, in every failure mode", async () => {
    const g = new Guard({
      url: server.url,
      key: "gbk_wrong",
      data: folder(),
      onUnavailable: "allow",
      log: () => undefined,
      budgetMs: 5000,
    });
    const err = await g.decide({ kind: "input", content: "x" }).catch((e: unknown) => e);
    expect(err).toBeInstanceOf(GuardError);
    expect(err).not.toBeInstanceOf(GuardUnavailable);
    expect((err as Error).message).toContain("key is not known");
    await g.close();
  });

  test("a cancelled question rejects with the signal's reason, and is told", async () => {
    const g = new Guard({ url: server.url, key, data: folder(), budgetMs: 5000 });
    await g.start();
    const c = new AbortController();
    const asked = g.decide({ kind: "input", content: "x", signal: c.signal });
    c.abort(new Error("enough"));
    await expect(asked).rejects.toThrow("enough");
    await g.close();
    const seen = server.book().filter((e) => e.client === g.client && e.client_seq === 1);
    expect(seen.some((e) => e.event === "unanswered" || e.type === "decision")).toBe(true);
  });
});
