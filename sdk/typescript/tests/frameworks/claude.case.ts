import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { createSdkMcpServer, type Options, query, tool } from "@anthropic-ai/claude-agent-sdk";
import type { Guard } from "guardbook";
import { guardHooks } from "guardbook/claude";
import { z } from "zod";
import {
  anthropicURL,
  appointments,
  billing,
  decisions,
  injection,
  lost,
  mail,
  noted,
  plan,
  poisoned,
  server,
  ward,
} from "./world.js";

// The SDK's own CLI, talking to the provider's stand-in.
const home = mkdtempSync(join(tmpdir(), "guardbook-claude-"));
after(() => rmSync(home, { recursive: true, force: true }));

interface Seen {
  results: { text: string; error: boolean }[];
  answer: string;
  ran: string[];
}

async function run(
  guard: Guard,
  model: string,
  prompt: string,
  more: Partial<Options> = {},
  env: Record<string, string> = {},
): Promise<Seen> {
  const ran: string[] = [];
  const say = (text: string) => ({ content: [{ type: "text" as const, text }] });
  const clinic = createSdkMcpServer({
    name: "clinic",
    version: "1",
    tools: [
      tool("read_document", "Reads a document.", { name: z.string() }, async ({ name }) =>
        noted(ran.push(`read_document ${name}`), say(poisoned)),
      ),
      tool("query_database", "Runs a read-only SQL query.", { query: z.string() }, async ({ query }) =>
        noted(ran.push(`query_database ${query}`), say("2026-03-09T10:30 Okafor")),
      ),
      tool("free_send", "Sends.", { to: z.string() }, async ({ to }) =>
        noted(ran.push(`free_send ${to}`), say(`sent to ${mail}`)),
      ),
      tool("free_fire", "Breaks.", {}, async () => {
        throw new Error(injection);
      }),
      tool("free_stop", "Is killed.", { agent: z.string() }, async ({ agent }) =>
        noted(server.run("kill", agent, "--reason", "test"), say("ok")),
      ),
    ],
  });
  const stream = query({
    prompt,
    options: {
      model,
      cwd: home,
      permissionMode: "bypassPermissions",
      allowDangerouslySkipPermissions: true,
      settingSources: [],
      tools: ["Read", "Bash"],
      maxTurns: 8,
      mcpServers: { clinic },
      hooks: guardHooks(guard),
      env: {
        PATH: process.env.PATH ?? "",
        HOME: home,
        IS_SANDBOX: "1",
        ANTHROPIC_BASE_URL: anthropicURL,
        ANTHROPIC_API_KEY: "sk-test",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
        DISABLE_TELEMETRY: "1",
        DISABLE_AUTOUPDATER: "1",
        ...env,
      },
      ...more,
    },
  });
  const seen: Seen = { results: [], answer: "", ran };
  for await (const m of stream) {
    if (m.type === "user" && Array.isArray(m.message.content)) {
      for (const block of m.message.content) {
        if (typeof block === "object" && block.type === "tool_result") {
          seen.results.push({
            text: typeof block.content === "string" ? block.content : JSON.stringify(block.content),
            error: block.is_error === true,
          });
        }
      }
    }
    if (m.type === "result") seen.answer = m.subtype === "success" ? m.result : m.subtype;
  }
  return seen;
}

const clinic = (name: string, args: Record<string, unknown>) => ({ name: `mcp__clinic__${name}`, arguments: args });

test("denied calls and results are told to the model, and the agent goes on", async () => {
  const { guard, agent } = ward();
  const story = plan(
    { calls: [clinic("read_document", { name: "intake" })] },
    { calls: [clinic("query_database", { query: billing }), clinic("query_database", { query: appointments })] },
    { text: "Your next appointment is on 9 March." },
  );
  const seen = await run(guard, story, "When is my next appointment?");
  assert.equal(seen.answer, "Your next appointment is on 9 March.");
  assert.deepEqual(seen.ran, ["read_document intake", `query_database ${appointments}`]);
  const [read, denied, fine] = seen.results;
  assert.match(read?.text ?? "", /Blocked/);
  assert.doesNotMatch(read?.text ?? "", /maintenance mode/);
  assert.match(denied?.text ?? "", /billing/);
  assert.equal(denied?.error, true);
  assert.match(fine?.text ?? "", /Okafor/);
  const book = decisions(agent);
  assert.ok(
    book.every((d) => d.path === "inspect/typescript/claude" && /^[0-9a-f-]{36}$/.test(d.session)),
    JSON.stringify(book),
  );
  assert.deepEqual(
    book.filter((d) => d.decision === "block").map((d) => `${d.kind} ${d.tool}`),
    ["tool_result read_document", "tool_call query_database"],
  );
  assert.equal(book.filter((d) => d.kind === "input").length, 1);
});

test("arguments and results are redacted", async () => {
  const { guard } = ward();
  const seen = await run(
    guard,
    plan({ calls: [clinic("free_send", { to: `Dear ${mail}` })] }, { text: "Done." }),
    "Send it.",
  );
  assert.ok(seen.ran[0]?.startsWith("free_send Dear ") && !seen.ran[0].includes(mail), seen.ran.join());
  assert.ok(seen.results[0]?.text.includes("sent to ") && !seen.results[0].text.includes(mail), seen.results[0]?.text);
});

test("the CLI's own tools: what a file or a command gives is replaced in its shape", async () => {
  const { guard } = ward();
  writeFileSync(join(home, "intake.txt"), poisoned);
  writeFileSync(join(home, "contact.txt"), `Write to ${mail}.`);
  const seen = await run(
    guard,
    plan(
      { calls: [{ name: "Read", arguments: { file_path: join(home, "intake.txt") } }] },
      { calls: [{ name: "Bash", arguments: { command: `cat ${join(home, "intake.txt")}` } }] },
      { calls: [{ name: "Bash", arguments: { command: `cat ${join(home, "contact.txt")}` } }] },
      { calls: [{ name: "Bash", arguments: { command: "rm -rf ." } }] },
      { text: "Done." },
    ),
    "Read it.",
  );
  const [read, cat, contact, rm] = seen.results;
  for (const r of [read, cat]) {
    assert.doesNotMatch(r?.text ?? "", /maintenance mode/);
    assert.match(r?.text ?? "", /Blocked/);
  }
  assert.ok(contact?.text.includes("Write to ") && !contact.text.includes(mail), contact?.text);
  assert.equal(rm?.error, true);
  assert.equal(seen.answer, "Done.");
});

test("a denied prompt is refused, and the model is not asked", async () => {
  const { guard, agent } = ward();
  const seen = await run(guard, plan({ text: "Never." }), injection);
  assert.doesNotMatch(seen.answer, /Never/);
  assert.deepEqual(
    decisions(agent).map((d) => `${d.kind} ${d.decision}`),
    ["input block"],
  );
});

test("an error whose words are denied stops the agent before it reads them", async () => {
  const { guard } = ward();
  const seen = await run(guard, plan({ calls: [clinic("free_fire", {})] }, { text: "Went on." }), "Go");
  assert.notEqual(seen.answer, "Went on.");
});

test("the kill switch, and no server: calls are refused, and the agent is told", async () => {
  const { guard, agent } = ward();
  const killed = await run(
    guard,
    plan(
      { calls: [clinic("free_stop", { agent })] },
      { calls: [clinic("query_database", { query: appointments })] },
      { text: "Done." },
    ),
    "Go",
  );
  assert.deepEqual(killed.ran, []);
  const alone = await run(
    lost(),
    plan({ calls: [clinic("query_database", { query: appointments })] }, { text: "Done." }),
    "Go",
  );
  assert.deepEqual(alone.ran, []);
  assert.match(alone.results[0]?.text ?? "", /could not be asked/);
  assert.equal(alone.answer, "Done.");
});

test("a hook that fails blocks: nothing runs unasked", async () => {
  const broken = { decide: () => Promise.reject(new Error("the disk is full")) } as unknown as Guard;
  const seen = await run(
    broken,
    plan({ calls: [clinic("query_database", { query: appointments })] }, { text: "Done." }),
    "Go",
  );
  assert.deepEqual(seen.ran, []);
});

test("through the gateway what the model writes is redacted before anybody sees it", async () => {
  const { guard, key } = ward();
  const leak = plan({ text: `Please write to ${mail} for more.` });
  const bare = await run(guard, leak, "Whom do I write to?");
  assert.ok(bare.answer.includes(mail), "no hook sees it");
  const through = await run(
    guard,
    leak,
    "Whom do I write to?",
    {},
    {
      ANTHROPIC_BASE_URL: `${server.url}/anthropic`,
      ANTHROPIC_CUSTOM_HEADERS: `X-Guardbook-Key: ${key}\nX-Guardbook-Tool-Calls: asked`,
    },
  );
  assert.ok(through.answer.includes("Please write to") && !through.answer.includes(mail), through.answer);
});

test("a call that is cancelled ends", async () => {
  const { guard } = ward();
  const abortController = new AbortController();
  const endless = plan({ text: "And on and on. ", pace_ms: 50, repeat: 400 });
  setTimeout(() => abortController.abort(), 1_500);
  await assert.rejects(run(guard, endless, "Go", { abortController }));
});
