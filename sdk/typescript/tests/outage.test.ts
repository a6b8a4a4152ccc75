import { execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer as createHTTP } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { Anthropic } from "anthropic-v1";
import { Guard, GuardBlocked, GuardUnavailable } from "guardbook";
import { OpenAI as OpenAI4 } from "openai-v4";
import { OpenAI } from "openai-v6";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually, folder, plan, StandIn, TestServer } from "./server.js";

let server: TestServer;
let key: string;
let data: string;
const open: Guard[] = [];

beforeEach(async () => {
  server = await TestServer.start({ durability: "balanced" });
  key = server.agent();
  data = folder();
});
afterEach(async () => {
  for (const g of open.splice(0)) await g.close();
  await server.kill();
});

function make(more: object = {}): Guard {
  const g = new Guard({ agent: "billing-bot", url: server.url, key, data, log: () => undefined, ...more });
  open.push(g);
  return g;
}

/** What is in the spool, as it stands on disk. */
function spooled(): { client: string; event: string; seq?: number; reason?: string }[] {
  const root = join(data, "spool", "typescript");
  if (!existsSync(root)) return [];
  return readdirSync(root, { recursive: true, encoding: "utf8" })
    .filter((f) => f.endsWith(".jsonl"))
    .flatMap((f) => readFileSync(join(root, f), "utf8").trim().split("\n").filter(Boolean))
    .map((line) => JSON.parse(line));
}

/** Numbers of a client that the book has, as a decision or as something told. */
function told(client: string): Set<number> {
  return new Set(
    server
      .book()
      .filter((e) => e.client === client && e.client_seq)
      .map((e) => e.client_seq as number),
  );
}

const child = (name: string) => fileURLToPath(new URL(`./children/${name}`, import.meta.url));

describe("when the server is away", () => {
  test("texts pass, tool calls do not; both are on disk before the call returns, and in the book when it is back", async () => {
    const g = make();
    await g.decide({ kind: "input", content: "first" });
    await server.kill();
    const d = await g.decide({ kind: "input", content: "second", session: "s-away" });
    expect(d).toMatchObject({ decision: "allow", unguarded: true, entry: "" });
    expect(spooled().map((e) => [e.event, e.seq])).toEqual([["unguarded", 2]]);
    const err = await g
      .decide({ kind: "tool_call", tool: { server: "crm", name: "query_database" } })
      .catch((e: unknown) => e);
    expect(err).toBeInstanceOf(GuardUnavailable);
    expect(err).not.toBeInstanceOf(GuardBlocked);
    expect(err).toMatchObject({ retryable: true });
    expect((err as Error).message).toContain("connection refused");
    expect(spooled().map((e) => [e.event, e.seq])).toEqual([
      ["unguarded", 2],
      ["refused", 3],
    ]);
    const verdict = await g.toolCall({ name: "query_database" });
    expect(verdict.allowed).toBe(false);
    await server.restart();
    expect(await g.flush()).toBe(true);
    const es = server.book().filter((e) => e.type === "client" && e.client === g.client);
    expect(es.map((e) => [e.event, e.client_seq ?? 0])).toEqual([
      ["unguarded", 2],
      ["refused", 3],
      ["refused", 4],
      ["degraded", 0],
    ]);
    expect(es[0]).toMatchObject({ session: "s-away", kind: "input", path: "inspect/typescript" });
    expect(es[1]).toMatchObject({ kind: "tool_call", tool: { server: "crm", name: "query_database" } });
    expect(es[3]).toMatchObject({ count: 3 });
    expect(Date.parse(es[3]?.from ?? "")).toBeLessThanOrEqual(Date.parse(es[3]?.to ?? ""));
    expect(spooled()).toEqual([]);
  });

  test("names of tools that no entry could hold do not hold up the spool", async () => {
    const g = make();
    await server.kill();
    for (const name of ["x".repeat(2000), "日".repeat(300), "\ud800", "a\u0000b\n"])
      await g.toolCall({ name, server: name });
    await server.restart();
    expect(await g.flush()).toBe(true);
    expect(told(g.client)).toEqual(new Set([1, 2, 3, 4]));
  });

  test("failure modes are obeyed", async () => {
    const g = make({ onUnavailable: "block", onUnavailableTools: "allow" });
    await server.kill();
    await expect(g.text("input", "x")).rejects.toBeInstanceOf(GuardUnavailable);
    await expect(
      g.decideAll([
        { kind: "input", content: "x" },
        { kind: "tool_call", tool: { name: "t" } },
      ]),
    ).rejects.toBeInstanceOf(GuardUnavailable);
    const call = await g.toolCall({ name: "anything", arguments: { a: 1 } });
    expect(call.allowed && call.value).toEqual({ a: 1 });
    expect(call.allowed && call.decision.unguarded).toBe(true);
    expect(spooled().map((e) => e.event)).toEqual(["refused", "refused", "unguarded", "unguarded"]);
  });

  test("a server that says nothing is away when the budget is spent", async () => {
    const g = make({ budgetMs: 100 });
    await g.decide({ kind: "input", content: "x" });
    await server.hold();
    expect(await g.decide({ kind: "input", content: "y" })).toMatchObject({ unguarded: true });
    expect(spooled()[0]?.reason).toBe("no answer within 100 ms");
    server.release();
    await eventually(() => spooled().length === 0);
    expect(told(g.client)).toEqual(new Set([1, 2]));
  });

  test("time in which this process computes is not the server's", async () => {
    const g = make({ budgetMs: 50 });
    await g.decide({ kind: "input", content: "x" });
    const asked = g.decide({ kind: "input", content: "y" });
    for (let i = 0; i < 3; i++) await Promise.resolve(); // the question is on its way
    const until = performance.now() + 400;
    while (performance.now() < until);
    expect((await asked).unguarded).toBeUndefined();
  });

  test("what answers but does not decide is no server", async () => {
    await server.kill();
    const other = createHTTP((_, response) => void response.end("<h1>It works!</h1>"));
    await new Promise<void>((r) => void other.listen(server.port, "127.0.0.1", r));
    const g = make();
    expect(await g.decide({ kind: "input", content: "x" })).toMatchObject({ unguarded: true });
    expect(spooled()[0]?.reason).toContain("is another server at this address?");
    expect((await g.toolCall({ name: "t" })).allowed).toBe(false);
    other.closeAllConnections();
    await new Promise((r) => other.close(r));
  });

  test("after five failures it is left alone, and then found again", async () => {
    await server.kill();
    let connections = 0;
    const trap = createServer((s) => {
      connections++;
      s.destroy();
    });
    await new Promise<void>((r) => void trap.listen(server.port, "127.0.0.1", r));
    const g = make();
    for (let i = 0; i < 50; i++) await g.decide({ kind: "input", content: "x" });
    expect(connections).toBeLessThanOrEqual(5 + 5); // the spool's own tries beside
    await new Promise((r) => trap.close(r));
    await server.restart();
    await eventually(() => spooled().length === 0);
    expect((await g.decide({ kind: "input", content: "x" })).unguarded).toBeUndefined();
    expect(told(g.client).size).toBe(51);
  });

  test("what a killed process had left is told by the next one, under its own client", async () => {
    await server.kill();
    const p = spawn(process.execPath, [child("outage.mjs")], {
      env: {
        ...process.env,
        GUARDBOOK_URL: server.url,
        GUARDBOOK_KEY: key,
        GUARDBOOK_DATA: data,
        GUARDBOOK_AGENT: "billing-bot",
      },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const client = await new Promise<string>((resolve) =>
      p.stdout.on("data", (b: Buffer) => resolve(String(b).trim())),
    );
    p.kill("SIGKILL");
    await new Promise((r) => p.once("exit", r));
    expect(spooled().map((e) => e.seq)).toEqual([1, 2, 3]);
    await server.restart();
    await make().decide({ kind: "input", content: "x" });
    await eventually(() => told(client).size === 3);
    await eventually(() => spooled().length === 0);
  });

  test("a process that ends tells what it can, and leaves the rest on disk", async () => {
    const env = {
      ...process.env,
      GUARDBOOK_URL: server.url,
      GUARDBOOK_KEY: key,
      GUARDBOOK_DATA: data,
      GUARDBOOK_AGENT: "billing-bot",
    };
    await server.kill();
    for (const how of ["return", "exit", "throw", "signal"]) {
      try {
        execFileSync(process.execPath, [child("ends.mjs"), how], { env, stdio: ["ignore", "ignore", "ignore"] });
      } catch {
        // that is how they end
      }
    }
    expect(spooled().filter((e) => e.seq === 1)).toHaveLength(4);
    expect(spooled().filter((e) => e.event === "degraded").length).toBeGreaterThanOrEqual(3); // a signal leaves no time
    await server.restart();
    execFileSync(process.execPath, [child("ends.mjs"), "return"], { env, stdio: ["ignore", "ignore", "inherit"] });
    await make().decide({ kind: "input", content: "x" });
    await eventually(() => spooled().length === 0);
    expect(server.book().filter((e) => e.event === "unguarded")).toHaveLength(4);
  });

  test("each worker thread is a client of its own", async () => {
    const work = () =>
      new Promise<string>((resolve, reject) => {
        const w = new Worker(child("worker.mjs"), {
          env: { ...process.env, GUARDBOOK_URL: server.url, GUARDBOOK_KEY: key, GUARDBOOK_DATA: data },
        });
        let client = "";
        w.on("message", (m: string) => (client = m));
        w.on("error", reject);
        w.on("exit", () => resolve(client));
      });
    const clients = await Promise.all([work(), work(), work()]);
    expect(new Set(clients).size).toBe(3);
    for (const c of clients) expect(told(c)).toEqual(new Set([1, 2, 3, 4, 5]));
  });

  test("a spool that cannot be written is said, kept in memory, and told", async () => {
    writeFileSync(join(data, "spool"), "in the way");
    const said: string[] = [];
    const g = make({ log: (l: string) => said.push(l) });
    await server.kill();
    for (let i = 0; i < 3; i++) await g.decide({ kind: "input", content: "x" });
    expect(said.join()).toContain("cannot be written");
    expect(said).toHaveLength(1);
    await server.restart();
    expect(await g.flush()).toBe(true);
    expect(told(g.client)).toEqual(new Set([1, 2, 3]));
  });
});

describe("2,000 interactions, while the server is killed and restarted", () => {
  test("every number is a decision, or was told", async () => {
    const g = make({ budgetMs: 1000 });
    let passed = 0;
    let sent = 0;
    let stop = false;
    const chaos = (async () => {
      for (let i = 0; i < 4; i++) {
        const from = sent;
        await eventually(() => stop || sent > from + 150, 2000);
        if (stop) return;
        await server.kill();
        const away = sent;
        await eventually(() => stop || sent > away + 100, 2000);
        await server.restart();
      }
    })();
    await Promise.all(
      Array.from({ length: 24 }, async () => {
        while (sent < 2000) {
          const n = ++sent;
          const kind = n % 3 === 0 ? "tool_call" : "input";
          const v =
            kind === "tool_call"
              ? await g.toolCall({ name: "get_time" })
              : await g.decide({ kind, content: `text ${n}` });
          if (!("unguarded" in v)) passed++;
          // As fast as a refused connection would be, nothing would be left for the restart.
          await new Promise((r) => setTimeout(r, 4));
        }
      }),
    );
    stop = true;
    await chaos;
    await server.kill();
    await server.restart();
    await eventually(() => !g.pending || void g.flush());
    expect(passed).toBeGreaterThan(200);
    const numbers = told(g.client);
    const missing = Array.from({ length: sent }, (_, i) => i + 1).filter((n) => !numbers.has(n));
    expect(missing).toEqual([]);
    expect(server.book().filter((e) => e.event === "degraded").length).toBeGreaterThan(0);
  });
});

describe("model calls when the server is away", () => {
  let standIn: StandIn;
  beforeAll(async () => {
    standIn = await StandIn.start();
  });
  afterAll(() => standIn.stop());
  const model = plan({ text: "A quiet answer." });
  const messages = [{ role: "user" as const, content: "Hello." }];
  const tools = [
    { type: "function" as const, function: { name: "query_database", parameters: { type: "object", properties: {} } } },
  ];

  test("go straight to the provider when they offer no tools, and are told", async () => {
    const g = make();
    const openai = g.wrap(new OpenAI({ apiKey: "k", baseURL: `${standIn.url}/openai/v1` }));
    const anthropic = g.wrap(new Anthropic({ apiKey: "k", baseURL: `${standIn.url}/anthropic` }));
    await server.kill();
    const r = await openai.chat.completions.create({ model, messages });
    expect(r.choices[0]?.message.content).toBe("A quiet answer.");
    expect(await anthropic.messages.stream({ model, messages, max_tokens: 9 }).finalText()).toBe("A quiet answer.");
    expect(spooled().map((e) => e.event)).toEqual(["unguarded", "unguarded"]);
    await server.restart();
    expect(await g.flush()).toBe(true);
    expect(
      server
        .book()
        .filter((e) => e.event === "unguarded")
        .map((e) => e.path),
    ).toEqual(["inspect/typescript/openai", "inspect/typescript/anthropic"]);
  });

  test("reach a server that was restarted in between, and a provider by the client's own fetch", async () => {
    const g = make({ budgetMs: 2000 });
    let own = 0;
    const counted = ((...a: Parameters<typeof fetch>) => {
      own++;
      return fetch(...a);
    }) as never;
    const v4 = g.wrap(new OpenAI4({ apiKey: "k", baseURL: `${standIn.url}/openai/v1` }));
    const v6 = g.wrap(new OpenAI({ apiKey: "k", baseURL: `${standIn.url}/openai/v1`, fetch: counted }));
    for (const c of [v4, v6] as OpenAI[])
      expect((await c.chat.completions.create({ model, messages })).choices).toHaveLength(1);
    await server.kill();
    await server.restart();
    for (const c of [v4, v6] as OpenAI[])
      expect((await c.chat.completions.create({ model, messages })).choices).toHaveLength(1);
    expect(own).toBe(0);
    expect(spooled()).toEqual([]);
    await server.kill();
    for (const c of [v4, v6] as OpenAI[])
      expect((await c.chat.completions.create({ model, messages })).choices).toHaveLength(1);
    expect(own).toBe(1);
  });

  test("do not when they do: GuardUnavailable itself, after one try", async () => {
    const g = make();
    const openai = g.wrap(new OpenAI({ apiKey: "k", baseURL: `${standIn.url}/openai/v1` }));
    const anthropic = g.wrap(new Anthropic({ apiKey: "k", baseURL: `${standIn.url}/anthropic` }));
    await server.kill();
    await expect(openai.chat.completions.create({ model, messages, tools })).rejects.toBeInstanceOf(GuardUnavailable);
    await expect(openai.chat.completions.stream({ model, messages, tools }).finalContent()).rejects.toBeInstanceOf(
      GuardUnavailable,
    );
    const t = [{ name: "a", input_schema: { type: "object" as const } }];
    await expect(anthropic.messages.create({ model, messages, max_tokens: 9, tools: t })).rejects.toBeInstanceOf(
      GuardUnavailable,
    );
    expect(spooled().map((e) => e.event)).toEqual(["refused", "refused", "refused"]);
    const strict = make({ onUnavailable: "block" }).wrap(
      new OpenAI({ apiKey: "k", baseURL: `${standIn.url}/openai/v1` }),
    );
    await expect(strict.chat.completions.create({ model, messages })).rejects.toBeInstanceOf(GuardUnavailable);
    const loose = make({ onUnavailableTools: "allow" }).wrap(
      new OpenAI({ apiKey: "k", baseURL: `${standIn.url}/openai/v1` }),
    );
    expect((await loose.chat.completions.create({ model, messages, tools })).choices).toHaveLength(1);
    await expect(
      make().fetchWith({ onBlock: "throw" })(`${standIn.url}/openai/v1/chat/completions`, {
        method: "POST",
        body: JSON.stringify({ model, messages, tools }),
      }),
    ).rejects.toBeInstanceOf(GuardUnavailable);
  });

  test("a server that says nothing costs the budget, not the provider's time limit", async () => {
    const g = make({ budgetMs: 100 });
    const openai = g.wrap(new OpenAI({ apiKey: "k", baseURL: `${standIn.url}/openai/v1` }));
    await server.hold();
    const r = await openai.chat.completions.create({ model, messages });
    server.release();
    expect(r.choices).toHaveLength(1);
    expect(spooled().map((e) => e.event)).toEqual(["unguarded"]);
  });
});
