// What the TypeScript SDK costs, and what it loses (nothing). Needs bin/guardbook and
// sdk/typescript built (npm ci && npm run build there).
//
//   node bench/sdk/typescript/bench.mjs [--quick]
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
const sdk = join(root, "sdk", "typescript");
const binary = process.env.GUARDBOOK_TEST_BINARY ?? join(root, "bin", "guardbook");
const { Guard } = await import(join(sdk, "dist", "esm", "index.js"));
const { OpenAI } = createRequire(join(sdk, "package.json"))("openai-v6");
const quick = process.argv.includes("--quick");
const work = mkdtempSync(join(tmpdir(), "guardbook-bench-"));
const children = new Set();
process.on("exit", () => {
  for (const c of children) c.kill("SIGKILL");
  rmSync(work, { recursive: true, force: true });
});

const policy = `
policy: bench
version: 1
owner: bench@example.com
agents: ["*"]
mode: enforce
tools:
  - name: query_database
    allow: {query: {type: string, max_length: 200}}
findings:
  - {class: prompt_injection, channels: [input, tool_result], threshold: 0.8, action: block, severity: critical}
  - {class: secret, channels: [input, output, tool_call], action: redact, severity: high}
`;

const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
const freePort = () =>
  new Promise((resolve) => {
    const s = createServer().listen(0, "127.0.0.1", () => {
      const { port } = s.address();
      s.close(() => resolve(port));
    });
  });

function start(...args) {
  const child = spawn(binary, args, { stdio: "ignore" });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

async function until(url) {
  for (let i = 0; i < 1000; i++) {
    try {
      await fetch(url);
      return;
    } catch {
      await sleep(20);
    }
  }
  throw new Error(`${url} does not answer`);
}

const standInPort = await freePort();
const standIn = `http://127.0.0.1:${standInPort}`;
start("demo", "--serve-stand-in", `127.0.0.1:${standInPort}`);
await until(standIn);

async function server(durability) {
  const data = join(work, `data-${durability}-${Math.random()}`);
  mkdirSync(join(data, "policies"), { recursive: true });
  writeFileSync(join(data, "policies", "bench.yaml"), policy);
  const port = await freePort();
  const s = { data, url: `http://127.0.0.1:${port}` };
  s.start = async () => {
    s.child = start("serve", "--data", data, "--listen", `127.0.0.1:${port}`, "--durability", durability, "--client-upstreams", "any");
    await until(`${s.url}/readyz`);
  };
  s.kill = async () => {
    const gone = new Promise((r) => s.child.once("exit", r));
    s.child.kill("SIGKILL");
    await gone;
  };
  s.run = (...args) => execFileSync(binary, [...args, "--data", data, "--url", s.url], { encoding: "utf8", maxBuffer: 1 << 29 });
  await s.start();
  s.key = JSON.parse(s.run("agents", "create", "bench", "--json")).key;
  return s;
}

async function times(n, fn) {
  for (let i = 0; i < Math.min(300, n); i++) await fn(i);
  const out = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const from = performance.now();
    await fn(i);
    out[i] = performance.now() - from;
  }
  out.sort();
  return { p50: out[Math.floor(n * 0.5)], p99: out[Math.floor(n * 0.99)] };
}

const rows = [];
const ms = (t) => `${t.toFixed(t < 10 ? 3 : 1)} ms`;
const row = (what, a, b = "") => {
  rows.push([what, a, b]);
  console.log(`${what.padEnd(68)} ${String(a).padStart(12)} ${String(b).padStart(12)}`);
};
const N = quick ? 500 : 3000;

console.log(`node ${process.version}, ${cpus().length} CPUs (${cpus()[0]?.model.trim()})\n`);
row("", "p50", "p99");
for (const durability of ["balanced", "strict"]) {
  const s = await server(durability);
  const guard = new Guard({ agent: "bench", url: s.url, key: s.key, data: work, budgetMs: 10_000 });
  const decide = await times(N, (i) => guard.decide({ kind: "input", content: `What does the customer with number ${i} want?` }));
  row(`a decision on a text, ${durability}`, ms(decide.p50), ms(decide.p99));
  const call = await times(N, (i) => guard.toolCall({ name: "query_database", arguments: { query: `SELECT ${i}` } }));
  row(`a decision on a tool call, ${durability}`, ms(call.p50), ms(call.p99));
  const tool = guard.tool("query_database", async () => "one row");
  const whole = await times(N, (i) => tool({ query: `SELECT ${i}` }));
  row(`a guarded tool: its call and its result, ${durability}`, ms(whole.p50), ms(whole.p99));
  if (durability === "balanced") {
    const body = (i) => JSON.stringify({ kind: "input", content: `What does the customer with number ${i} want?` });
    const headers = { "content-type": "application/json", "x-guardbook-key": s.key };
    const plain = await times(N, async (i) => (await fetch(`${s.url}/v1/inspect`, { method: "POST", headers, body: body(i) })).json());
    row("  the same with fetch, for comparison", ms(plain.p50), ms(plain.p99));
  }
  for (let i = 0; i < 3; i++) {
    const from = performance.now();
    await Promise.all(Array.from({ length: 1000 }, (_, k) => guard.decide({ kind: "input", content: `text ${k} of burst ${i}` })));
    if (i === 2) row(`1,000 decisions asked for at once, ${durability}: the last of them`, ms(performance.now() - from));
  }
  const plan = Buffer.from(JSON.stringify([{ text: "The customer wants to know when the order arrives." }])).toString("base64url");
  const direct = new OpenAI({ apiKey: "k", baseURL: `${standIn}/openai/v1` });
  const wrapped = guard.wrap(direct);
  const ask = (client, i) => client.chat.completions.create({ model: `guardbook-stand-in/plan:${plan}`, messages: [{ role: "user", content: `What does customer ${i} want?` }] });
  const n = quick ? 200 : 1000;
  const without = await times(n, (i) => ask(direct, i));
  const within = await times(n, (i) => ask(wrapped, i));
  if (durability === "balanced") row("a model call, direct", ms(without.p50), ms(without.p99));
  row(`a model call, guarded, ${durability}`, ms(within.p50), ms(within.p99));
  row(`  added`, ms(within.p50 - without.p50), ms(within.p99 - without.p99));
  await guard.close();
  await s.kill();
}

const load = (code, ...flags) =>
  Math.min(
    ...Array.from({ length: 10 }, () => {
      const timed = `const from = performance.now(); ${code}; console.log(performance.now() - from)`;
      return Number(execFileSync(process.execPath, [...flags, "-e", timed], { cwd: sdk, encoding: "utf8" }));
    }),
  );
row("import, ES module (least of 10)", ms(load('await import("guardbook")', "--input-type=module")));
row("require, CommonJS (least of 10)", ms(load('require("guardbook")')));

const packs = join(work, "packs");
const platform = `${process.platform}-${process.arch}`;
execFileSync(process.execPath, [join(sdk, "scripts", "pack.mjs"), "--no-build", "--out", packs, "--platforms", platform, "--binary", `${platform}=${binary}`], { stdio: "ignore" });
for (const f of readdirSync(packs)) row(`size of ${f}`, `${(statSync(join(packs, f)).size / 1024).toFixed(0)} KiB`);

const total = quick ? 2000 : 10_000;
const s = await server("strict");
const guard = new Guard({ agent: "bench", url: s.url, key: s.key, data: work, budgetMs: 1000 });
let sent = 0;
let unguarded = 0;
let running = true;
const chaos = (async () => {
  for (let i = 0; i < 5 && running; i++) {
    const at = sent + total / 8;
    while (running && sent < at) await sleep(5);
    await s.kill();
    const away = sent + total / 50;
    while (running && sent < away) await sleep(5);
    await s.start();
  }
})();
const from = performance.now();
await Promise.all(
  Array.from({ length: 32 }, async () => {
    while (sent < total) {
      const n = ++sent;
      const d = await guard.decide({ kind: "input", content: `text ${n}` });
      if (d.unguarded) {
        unguarded++;
        await sleep(5);
      }
    }
  }),
);
const took = performance.now() - from;
running = false;
await chaos;
while (!(await guard.flush())) await sleep(100);
await guard.close();
const entries = s.run("book", "cat", "--json").trim().split("\n").map((l) => JSON.parse(l)).filter((e) => e.client === guard.client && e.client_seq);
const known = new Set(entries.map((e) => e.client_seq));
let lost = 0;
for (let n = 1; n <= total; n++) if (!known.has(n)) lost++;
const gaps = s.run("clients", "--json").trim().split("\n").map((l) => JSON.parse(l)).find((c) => c.client === guard.client)?.missing ?? [];
console.log(`\n${total} interactions, 32 at a time, the server killed and restarted 5 times (${(took / 1000).toFixed(1)} s)`);
row("decided", new Set(entries.filter((e) => e.type === "decision").map((e) => e.client_seq)).size);
row("passed without a decision, and told afterwards", unguarded);
row("gaps that the server shows", gaps.length);
row("lost", lost);
await s.kill();
process.exit(lost === 0 ? 0 : 1);
