import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Agent,
  handoff,
  type MCPServer,
  OpenAIChatCompletionsModel,
  OpenAIResponsesModel,
  run,
  setDefaultOpenAIClient,
  setOpenAIAPI,
  setTracingDisabled,
  tool,
} from "@openai/agents";
import { GuardBlocked } from "guardbook";
import { blockedBy, guardAgent, toolInputGuardrail, toolOutputGuardrail } from "guardbook/openai-agents";
import OpenAI from "openai";
import { z } from "zod";
import {
  appointments,
  billing,
  decisions,
  injection,
  lost,
  mail,
  meeting,
  noted,
  openaiURL,
  plan,
  poisoned,
  server,
  ward,
} from "./world.js";

setTracingDisabled(true);

const client = (fetch?: typeof globalThis.fetch) =>
  new OpenAI({ baseURL: openaiURL, apiKey: "sk-test", maxRetries: 2, ...(fetch && { fetch }) });
const models = {
  chat: (id: string, c = client()) => new OpenAIChatCompletionsModel(c as never, id),
  responses: (id: string, c = client()) => new OpenAIResponsesModel(c as never, id),
};

function tools() {
  const ran: string[] = [];
  return {
    ran,
    all: [
      tool({
        name: "read_document",
        description: "Reads a document of the practice.",
        parameters: z.object({ name: z.string() }),
        execute: async ({ name }) => noted(ran.push(`read_document ${name}`), poisoned),
      }),
      tool({
        name: "query_database",
        description: "Runs a read-only SQL query.",
        parameters: z.object({ query: z.string() }),
        execute: async ({ query }) => noted(ran.push(`query_database ${query}`), "2026-03-09T10:30 Okafor"),
      }),
    ],
  };
}

const story = plan(
  { calls: [{ name: "read_document", arguments: { name: "intake" } }] },
  { calls: [{ name: "query_database", arguments: { query: billing } }] },
  { calls: [{ name: "query_database", arguments: { query: appointments } }] },
  { text: "Your next appointment is on 9 March." },
);
const leak = plan({ text: `Please write to ${mail} for more, she answers within the day.` });

const outputs = (items: { type: string; output?: unknown }[]) =>
  items
    .filter((i) => i.type === "tool_call_output_item")
    .map((i) => (typeof i.output === "string" ? i.output : JSON.stringify(i.output)));

for (const [api, make] of Object.entries(models)) {
  for (const streamed of [false, true]) {
    test(`${api}, ${streamed ? "streamed" : "whole"}: denied calls and results are outputs of tools, and the agent goes on`, async () => {
      const { guard, agent: name } = ward({ session: "s-agents" });
      const { ran, all } = tools();
      const agent = new Agent({
        name: "Ward",
        instructions: "You help patients.",
        model: make(story),
        modelSettings: { store: false },
        tools: all,
      });
      const guarded = guardAgent(guard, agent);
      assert.notEqual(guarded, agent);
      assert.equal(agent.tools[0], all[0], "the given agent stays as it was");
      let result: { finalOutput?: unknown; newItems: never[] };
      if (streamed) {
        const s = await run(guarded, "When is my next appointment?", { stream: true });
        await s.completed;
        result = s as never;
      } else result = (await run(guarded, "When is my next appointment?")) as never;
      assert.equal(result.finalOutput, "Your next appointment is on 9 March.");
      const [read, denied, allowed] = outputs(result.newItems);
      assert.match(read ?? "", /Blocked/);
      assert.doesNotMatch(read ?? "", /maintenance mode/);
      assert.match(denied ?? "", /billing/);
      assert.match(allowed ?? "", /Okafor/);
      assert.deepEqual(ran, ["read_document intake", `query_database ${appointments}`]);
      const book = decisions(name);
      assert.ok(book.every((d) => d.session === "s-agents" && d.path === "inspect/typescript/openai-agents"));
      assert.deepEqual(
        book.filter((d) => d.decision === "block").map((d) => `${d.kind} ${d.tool}`),
        ["tool_result read_document", "tool_call query_database"],
      );
      assert.ok(book.some((d) => d.kind === "input") && book.some((d) => d.kind === "output"));
    });
  }

  test(`${api}: through a wrapped client what is streamed was judged, and a denied call goes back to the model`, async () => {
    const { guard } = ward();
    const wrapped = guard.wrap(client(), { toolCalls: "asked" });
    const speaker = guardAgent(guard, new Agent({ name: "Speaker", model: make(leak, wrapped) }), {
      models: "gateway",
    });
    const s = await run(speaker, "Whom do I write to?", { stream: true });
    let seen = "";
    let pieces = 0;
    for await (const event of s) {
      seen += JSON.stringify(event);
      if (event.type === "raw_model_stream_event" && event.data.type === "output_text_delta") pieces++;
    }
    assert.ok(pieces > 5, `${pieces} pieces`);
    assert.ok(!seen.includes(mail));
    assert.match(String(s.finalOutput), /within the day/);

    const { ran, all } = tools();
    const agent = guardAgent(
      guard,
      new Agent({ name: "Ward", model: make(story, wrapped), modelSettings: { store: false }, tools: all }),
      { models: "gateway" },
    );
    const result = await run(agent, "When is my next appointment?");
    assert.equal(result.finalOutput, "Your next appointment is on 9 March.");
    assert.deepEqual(ran, ["read_document intake", `query_database ${appointments}`]);
  });
}

test("a denied input is refused before the model is asked; blockedBy takes GuardBlocked out", async () => {
  const { guard } = ward();
  let asked = 0;
  const spy = client(async (...a) => noted(asked++, fetch(...a)));
  const agent = guardAgent(guard, new Agent({ name: "Ward", model: models.chat(story, spy), tools: tools().all }));
  for (const input of [injection, [{ role: "user" as const, content: injection }]]) {
    const error = await run(agent, input).then(
      () => undefined,
      (e: unknown) => e,
    );
    assert.ok(blockedBy(error) instanceof GuardBlocked, String(error));
  }
  assert.equal(asked, 0);

  const wrapped = guard.wrap(spy);
  const through = guardAgent(guard, new Agent({ name: "Ward", model: models.responses(story, wrapped) }), {
    models: "gateway",
  });
  const error = await run(through, injection).then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.ok(blockedBy(error), String(error));
});

test("an output is redacted, whole and streamed", async () => {
  const { guard } = ward();
  for (const make of Object.values(models)) {
    const agent = guardAgent(guard, new Agent({ name: "Speaker", model: make(leak) }));
    const whole = await run(agent, "Whom do I write to?");
    assert.match(String(whole.finalOutput), /within the day/);
    assert.ok(!JSON.stringify([whole.finalOutput, whole.rawResponses, whole.history]).includes(mail));
    const s = await run(agent, "Whom do I write to?", { stream: true });
    let seen = "";
    for await (const event of s) seen += JSON.stringify(event);
    assert.match(seen, /within the day/);
    assert.ok(!seen.includes(mail));
  }
});

test("a model that is only named: guardrails refuse before and after", async () => {
  const { guard } = ward();
  let asked = 0;
  setDefaultOpenAIClient(client(async (...a) => noted(asked++, fetch(...a))) as never);
  setOpenAIAPI("chat_completions");
  const agent = guardAgent(guard, new Agent({ name: "Speaker", model: leak }));
  const before = await run(agent, injection).then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.ok(blockedBy(before), String(before));
  assert.equal(asked, 0, "the guardrail does not run beside the model");
  const after = await run(agent, "Hi").then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.equal(blockedBy(after)?.decision, "redact");
  assert.equal(asked, 1);
});

test("handoffs are walked, also in circles, and are calls of their own", async () => {
  const { guard, agent: name } = ward();
  const { ran, all } = tools();
  const desk = new Agent({
    name: "Desk",
    model: models.chat(
      plan(
        { text: "x" },
        { calls: [{ name: "query_database", arguments: { query: billing } }] },
        { text: "Done at the desk." },
      ),
    ),
    tools: all,
  });
  const front = new Agent({
    name: "Front",
    model: models.chat(plan({ calls: [{ name: "transfer_to_desk", arguments: {} }] })),
    handoffs: [handoff(desk, { toolNameOverride: "transfer_to_desk" })],
  });
  desk.handoffs = [front];
  const result = await run(guardAgent(guard, front), "Go");
  assert.equal(result.finalOutput, "Done at the desk.");
  assert.deepEqual(ran, []);
  assert.ok(decisions(name).some((d) => d.kind === "tool_call" && d.tool === "transfer_to_desk"));

  const vault = new Agent({ name: "Vault", model: models.chat(plan({ text: "Never." })) });
  const thief = new Agent({
    name: "Thief",
    model: models.chat(plan({ calls: [{ name: "transfer_to_vault", arguments: {} }] })),
    handoffs: [handoff(vault, { toolNameOverride: "transfer_to_vault" })],
  });
  const error = await run(guardAgent(guard, thief), "Go").then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.ok(blockedBy(error), String(error));
});

test("an agent used as a tool is guarded as a tool", async () => {
  const { guard } = ward();
  const helper = new Agent({ name: "Helper", model: models.chat(plan({ text: poisoned })) });
  const asTool = helper.asTool({ toolName: "free_helper", toolDescription: "Helps." });
  const agent = new Agent({
    name: "Boss",
    model: models.chat(plan({ calls: [{ name: "free_helper", arguments: { input: "Help" } }] }, { text: "Done." })),
    tools: [asTool],
  });
  const result = await run(guardAgent(guard, agent), "Go");
  assert.match(outputs(result.newItems as never)[0] ?? "", /Blocked/);
  assert.equal(result.finalOutput, "Done.");
});

test("MCP servers are walked: a poisoned tool is left out, and calls and results are judged", async () => {
  const { guard, agent: name } = ward();
  const called: string[] = [];
  const schema = {
    type: "object" as const,
    properties: { query: { type: "string" } },
    required: ["query"],
    additionalProperties: false,
  };
  const clinic = {
    name: "clinic",
    cacheToolsList: false,
    connect: async () => undefined,
    close: async () => undefined,
    invalidateToolsCache: async () => undefined,
    listTools: async () => [
      { name: "query_database", description: "Runs a read-only SQL query.", inputSchema: schema },
      { name: "free_bad", description: injection, inputSchema: schema },
      { name: "free_note", description: "Reads a note.", inputSchema: schema },
    ],
    callTool: async (tool: string) =>
      noted(called.push(tool), [{ type: "text", text: tool === "free_note" ? poisoned : "2026-03-09" }]),
  } as unknown as MCPServer;
  const model = models.chat(
    plan(
      {
        calls: [
          { name: "query_database", arguments: { query: billing } },
          { name: "free_note", arguments: { query: "x" } },
          { name: "query_database", arguments: { query: appointments } },
        ],
      },
      { text: "Done." },
    ),
  );
  const agent = guardAgent(guard, new Agent({ name: "Ward", model, mcpServers: [clinic] }));
  const result = await run(agent, "Go");
  assert.deepEqual(called.sort(), ["free_note", "query_database"]);
  const [denied, poison, fine] = outputs(result.newItems as never);
  assert.match(denied ?? "", /billing/);
  assert.match(poison ?? "", /Blocked/);
  assert.match(fine ?? "", /2026-03-09/);
  assert.ok(
    decisions(name).some((d) => d.kind === "tool_definition" && d.tool === "free_bad" && d.decision === "block"),
  );
  const offered = await agent.getMcpTools({ context: {} } as never).catch(() => clinic.listTools());
  assert.ok(Array.isArray(offered));
});

test("parallel calls, errors in tools and redacted arguments", async () => {
  const { guard } = ward();
  const met = meeting(2);
  let got = "";
  const list = [
    ...tools().all,
    tool({
      name: "free_meet",
      description: "Meets.",
      parameters: z.object({ n: z.number() }),
      execute: async ({ n }) => noted(await met(), `met ${n}`),
    }),
    tool({
      name: "free_fire",
      description: "Breaks.",
      parameters: z.object({}),
      errorFunction: (_, e) => String(e),
      execute: async () => {
        throw new Error("the printer is on fire");
      },
    }),
    tool({
      name: "free_evil",
      description: "Breaks.",
      parameters: z.object({}),
      errorFunction: (_, e) => String(e),
      execute: async () => {
        throw new Error(injection);
      },
    }),
    tool({
      name: "free_send",
      description: "Sends.",
      parameters: z.object({ to: z.string() }),
      execute: async ({ to }) => {
        got = to;
        return `sent to ${mail}`;
      },
    }),
  ];
  const calls = [
    { name: "free_meet", arguments: { n: 1 } },
    { name: "query_database", arguments: { query: billing } },
    { name: "free_meet", arguments: { n: 2 } },
    { name: "free_fire", arguments: {} },
    { name: "free_evil", arguments: {} },
    { name: "free_send", arguments: { to: `Dear ${mail}` } },
  ];
  const result = await run(
    guardAgent(guard, new Agent({ name: "Ward", model: models.chat(plan({ calls }, { text: "Done." })), tools: list })),
    "Go",
  );
  const [one, denied, two, fire, evil, sent] = outputs(result.newItems as never);
  assert.deepEqual([one, two], ["met 1", "met 2"]);
  assert.match(denied ?? "", /billing/);
  assert.match(fire ?? "", /on fire/);
  assert.match(evil ?? "", /Blocked/);
  assert.ok(got.startsWith("Dear ") && !got.includes(mail));
  assert.ok(sent?.startsWith("sent to ") && !sent.includes(mail));
});

test("a run that is cancelled ends, also while a tool runs", async () => {
  const { guard } = ward();
  const controller = new AbortController();
  const hang = tool({
    name: "free_hang",
    description: "Hangs.",
    parameters: z.object({}),
    execute: async () => {
      controller.abort(new Error("enough"));
      throw new Error("stopped");
    },
  });
  const agent = guardAgent(
    guard,
    new Agent({
      name: "Ward",
      model: models.chat(plan({ calls: [{ name: "free_hang", arguments: {} }] }, { text: "Never." })),
      tools: [hang],
    }),
  );
  await assert.rejects(run(agent, "Go", { signal: controller.signal }));
});

test("tool guardrails of their own", async () => {
  const { guard } = ward();
  let ran = 0;
  const query = tool({
    name: "query_database",
    description: "Runs a read-only SQL query.",
    parameters: z.object({ query: z.string() }),
    execute: async () => noted(ran++, poisoned),
    inputGuardrails: [toolInputGuardrail(guard)],
    outputGuardrails: [toolOutputGuardrail(guard)],
  });
  const model = models.chat(
    plan(
      {
        calls: [
          { name: "query_database", arguments: { query: billing } },
          { name: "query_database", arguments: { query: appointments } },
        ],
      },
      { text: "Done." },
    ),
  );
  const result = await run(new Agent({ name: "Ward", model, tools: [query] }), "Go");
  const [denied, poison] = outputs(result.newItems as never);
  assert.match(denied ?? "", /billing/);
  assert.match(poison ?? "", /Blocked/);
  assert.equal(ran, 1);
  assert.equal(result.finalOutput, "Done.");
});

test("guard.wrap takes an agent; the kill switch; no server", async () => {
  const { guard, agent: name } = ward();
  const { ran, all } = tools();
  const stop = tool({
    name: "free_stop",
    description: "Is killed.",
    parameters: z.object({}),
    execute: async () => noted(server.run("kill", name, "--reason", "test"), "ok"),
  });
  const working = plan(
    { calls: [{ name: "free_stop", arguments: {} }] },
    { calls: [{ name: "query_database", arguments: { query: appointments } }] },
    { text: "Done." },
  );
  const error = await run(
    guard.wrap(new Agent({ name: "Ward", model: models.chat(working), tools: [...all, stop] })),
    "Go",
  ).then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.ok(blockedBy(error), String(error));
  assert.deepEqual(ran, []);

  const alone = await run(
    guardAgent(lost(), new Agent({ name: "Ward", model: models.chat(story), tools: all })),
    "When?",
  );
  assert.deepEqual(ran, []);
  assert.ok(outputs(alone.newItems as never).every((o) => /could not be asked/.test(o)));
});
