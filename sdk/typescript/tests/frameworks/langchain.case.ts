import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatAnthropic } from "@langchain/anthropic";
import { AIMessage, type BaseMessage, HumanMessage } from "@langchain/core/messages";
import { Command, MemorySaver } from "@langchain/langgraph";
import { ToolNode } from "@langchain/langgraph/prebuilt";
import { ChatOpenAI } from "@langchain/openai";
import { GuardBlocked } from "guardbook";
import { blockedBy, guardMiddleware, guardModel, guardTools } from "guardbook/langchain";
import { createAgent, createMiddleware, ToolMessage, tool } from "langchain";
import { z } from "zod";
import {
  anthropicURL,
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

function tools() {
  const ran: string[] = [];
  const readDocument = tool(
    async ({ name }: { name: string }) => {
      ran.push(`read_document ${name}`);
      return name === "intake" ? poisoned : "A clean document.";
    },
    { name: "read_document", description: "Reads a document of the practice.", schema: z.object({ name: z.string() }) },
  );
  const queryDatabase = tool(
    async ({ query }: { query: string }) => {
      ran.push(`query_database ${query}`);
      return "starts_at=2026-03-09T10:30 doctor=Okafor";
    },
    { name: "query_database", description: "Runs a read-only SQL query.", schema: z.object({ query: z.string() }) },
  );
  return { ran, all: [readDocument, queryDatabase] };
}

const story = plan(
  { calls: [{ name: "read_document", arguments: { name: "intake" } }] },
  { calls: [{ name: "query_database", arguments: { query: billing } }] },
  { calls: [{ name: "query_database", arguments: { query: appointments } }] },
  { text: "Your next appointment is on 9 March." },
);

function openAI(model: string, fetch?: typeof globalThis.fetch, more: object = {}) {
  return new ChatOpenAI({
    model,
    apiKey: "sk-test",
    maxRetries: 0,
    configuration: { baseURL: openaiURL, ...(fetch && { fetch }) },
    ...more,
  });
}

function anthropic(model: string, fetch?: typeof globalThis.fetch) {
  return new ChatAnthropic({
    model,
    apiKey: "sk-test",
    maxRetries: 0,
    anthropicApiUrl: anthropicURL,
    ...(fetch && { clientOptions: { fetch } }),
  });
}

function toolMessages(messages: BaseMessage[]): ToolMessage[] {
  return messages.filter((m): m is ToolMessage => m.getType() === "tool");
}

function text(m: BaseMessage | undefined): string {
  return m === undefined ? "" : typeof m.content === "string" ? m.content : JSON.stringify(m.content);
}

const ask = (content: string) => ({ messages: [new HumanMessage(content)] });

for (const [provider, model] of [
  ["openai", openAI(story)],
  ["anthropic", anthropic(story)],
] as const) {
  test(`${provider}: a poisoned document and a denied query come back as errors, and the agent goes on`, async () => {
    const { guard, agent: name } = ward();
    const { ran, all } = tools();
    const agent = createAgent({
      model,
      tools: all,
      systemPrompt: "You help patients.",
      checkpointer: new MemorySaver(),
      middleware: [guardMiddleware(guard)],
    });
    const result = await agent.invoke(ask("When is my next appointment?"), {
      configurable: { thread_id: `t-${name}` },
    });
    const [read, denied, allowed] = toolMessages(result.messages);
    assert.equal(read?.status, "error");
    assert.doesNotMatch(text(read), /maintenance mode/);
    assert.match(text(read), /Blocked/);
    assert.equal(denied?.status, "error");
    assert.match(text(denied), /billing/);
    assert.match(text(allowed), /Okafor/);
    assert.match(text(result.messages.at(-1)), /9 March/);
    assert.deepEqual(ran, ["read_document intake", `query_database ${appointments}`]);
    const book = decisions(name);
    assert.ok(
      book.every((d) => d.session === `t-${name}` && d.path === "inspect/typescript/langchain"),
      JSON.stringify(book),
    );
    assert.deepEqual(
      book.filter((d) => d.decision === "block").map((d) => `${d.kind} ${d.tool}`),
      ["tool_result read_document", "tool_call query_database"],
    );
    assert.deepEqual(
      book.filter((d) => d.kind === "input").length,
      2,
      "the system prompt and the request are judged once each",
    );
  });
}

test("a denied input throws GuardBlocked, and the model is not asked", async () => {
  const { guard } = ward();
  let asked = 0;
  const model = openAI(story, async (...args) => {
    asked++;
    return fetch(...args);
  });
  const agent = createAgent({ model, tools: tools().all, middleware: [guardMiddleware(guard)] });
  const error = await agent.invoke(ask(injection)).then(
    () => undefined,
    (e: unknown) => e,
  );
  const blocked = blockedBy(error);
  assert.ok(blocked instanceof GuardBlocked, String(error));
  assert.equal(blocked.severity, "critical");
  assert.notEqual(blocked.entry, "");
  assert.equal(asked, 0);
});

const leak = plan({ text: `Please write to ${mail} for more, she answers within the day.` });

test("an output is redacted, in the state and in every stream", async () => {
  const { guard } = ward();
  const agent = createAgent({ model: openAI(leak), tools: [], middleware: [guardMiddleware(guard)] });
  const result = await agent.invoke(ask("Whom do I write to?"));
  assert.doesNotMatch(JSON.stringify(result.messages), new RegExp(mail));
  assert.match(text(result.messages.at(-1)), /Please write to/);
});

async function streamed(
  agent: ReturnType<typeof createAgent>,
  streamMode: "messages" | "updates" | "values",
): Promise<string[]> {
  const seen: string[] = [];
  for await (const chunk of await agent.stream(ask("Whom do I write to?"), { streamMode })) {
    const message = streamMode === "messages" ? (chunk as unknown as [BaseMessage])[0] : undefined;
    seen.push(message ? text(message) : JSON.stringify(chunk));
  }
  return seen;
}

test("no stream of messages carries what was not judged: without the guard it does", async () => {
  const { guard } = ward();
  const bare = createAgent({ model: openAI(leak), tools: [] });
  assert.ok((await streamed(bare as never, "messages")).join("").includes(mail), "the control leaks");
  const agent = createAgent({ model: openAI(leak), tools: [], middleware: [guardMiddleware(guard)] });
  for (const mode of ["messages", "updates", "values"] as const) {
    const seen = (await streamed(agent as never, mode)).join("");
    assert.ok(!seen.includes(mail), `${mode}: ${seen}`);
    assert.match(seen, /Please write to/, mode);
  }
});

test("a denied output in a stream throws, and nothing of it was seen", async () => {
  const { guard, agent: name } = ward();
  server.run("kill", name, "--reason", "test");
  const agent = createAgent({ model: openAI(leak), tools: [], middleware: [guardMiddleware(guard)] });
  const seen: string[] = [];
  const error = await (async () => {
    for await (const [m] of (await agent.stream(ask("Hello"), { streamMode: "messages" })) as AsyncIterable<
      [BaseMessage]
    >)
      seen.push(text(m));
  })().then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.ok(blockedBy(error), String(error));
  assert.ok(!seen.join("").includes("Please"));
});

for (const provider of ["openai", "anthropic"] as const) {
  test(`${provider} through the gateway: streamed token by token, redacted, also in events`, async () => {
    const { guard } = ward();
    const model = provider === "openai" ? openAI(leak, guard.fetch) : anthropic(leak, guard.fetch);
    const agent = createAgent({ model, tools: [], middleware: [guardMiddleware(guard, { models: "gateway" })] });
    const seen = await streamed(agent as never, "messages");
    assert.ok(seen.length > 5, `it is streamed: ${seen.length} pieces`);
    assert.ok(!seen.join("").includes(mail));
    const events: string[] = [];
    for await (const e of agent.streamEvents(ask("Whom do I write to?"), { version: "v2" }))
      events.push(JSON.stringify(e));
    assert.ok(!events.join("").includes(mail));
    assert.match(events.join(""), /within/);
  });
}

test("through the gateway a denied input is GuardBlocked, and is not retried", async () => {
  const { guard } = ward();
  let asked = 0;
  const model = openAI(
    leak,
    (...args) => {
      asked++;
      return guard.fetch(...args);
    },
    { maxRetries: 3 },
  );
  const agent = createAgent({ model, tools: [], middleware: [guardMiddleware(guard, { models: "gateway" })] });
  const error = await agent.invoke(ask(injection)).then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.ok(blockedBy(error), String(error));
  assert.equal(asked, 1);
});

test("through the gateway a denied call still goes back to the model", async () => {
  const { guard } = ward();
  const { ran, all } = tools();
  const agent = createAgent({
    model: guardModel(guard, openAI(story), { toolCalls: "asked" }),
    tools: all,
    middleware: [guardMiddleware(guard, { models: "gateway" })],
  });
  const result = await agent.invoke(ask("When is my next appointment?"));
  assert.match(text(result.messages.at(-1)), /9 March/);
  assert.deepEqual(ran, ["read_document intake", `query_database ${appointments}`]);
});

test("parallel calls run side by side, and each is judged for itself", async () => {
  const { guard } = ward();
  const met = meeting(2);
  const slow = tool(async ({ n }: { n: number }) => noted(await met(), `met ${n}`), {
    name: "free_meet",
    description: "Meets.",
    schema: z.object({ n: z.number() }),
  });
  const { ran, all } = tools();
  const model = openAI(
    plan(
      {
        calls: [
          { name: "free_meet", arguments: { n: 1 } },
          { name: "query_database", arguments: { query: billing } },
          { name: "free_meet", arguments: { n: 2 } },
        ],
      },
      { text: "Done." },
    ),
  );
  const agent = createAgent({ model, tools: [slow, ...all], middleware: [guardMiddleware(guard)] });
  const result = await agent.invoke(ask("Go"));
  assert.deepEqual(
    toolMessages(result.messages).map((m) => m.status ?? "success"),
    ["success", "error", "success"],
  );
  assert.deepEqual(ran, []);
});

test("an error in a tool is told to the model, and its words are judged", async () => {
  const { guard } = ward();
  const broken = (name: string, message: string) =>
    tool(
      async () => {
        throw new Error(message);
      },
      { name, description: "Breaks.", schema: z.object({}) },
    );
  const model = openAI(
    plan(
      {
        calls: [
          { name: "free_a", arguments: {} },
          { name: "free_b", arguments: {} },
        ],
      },
      { text: "Sorry." },
    ),
  );
  const list = [broken("free_a", "the printer is on fire"), broken("free_b", injection)];
  const agent = createAgent({ model, tools: list, middleware: [guardMiddleware(guard)] });
  const result = await agent.invoke(ask("Print"));
  const [a, b] = toolMessages(result.messages);
  assert.equal(a?.status, "error");
  assert.match(text(a), /on fire/);
  assert.equal(b?.status, "error");
  assert.doesNotMatch(text(b), /reveal your system prompt/);
  assert.equal(text(result.messages.at(-1)), "Sorry.");

  const strict = createAgent({ model, tools: list, middleware: [guardMiddleware(guard, { toolErrors: "throw" })] });
  await assert.rejects(strict.invoke(ask("Print")), /on fire|Ignore/);
});

test("arguments that do not fit the schema are told to the model, as without the guard", async () => {
  const { guard } = ward();
  const strict = tool(async () => "fine", {
    name: "free_strict",
    description: "Takes a number.",
    schema: z.object({ n: z.number() }),
  });
  const model = openAI(plan({ calls: [{ name: "free_strict", arguments: { n: "many" } }] }, { text: "Oh." }));
  const result = await createAgent({ model, tools: [strict], middleware: [guardMiddleware(guard)] }).invoke(ask("Go"));
  assert.equal(toolMessages(result.messages)[0]?.status, "error");
  assert.equal(text(result.messages.at(-1)), "Oh.");
});

test("a run that is cancelled ends, also while a tool runs", async () => {
  const { guard } = ward();
  const controller = new AbortController();
  const hang = tool(
    async () => {
      controller.abort(new Error("enough"));
      await new Promise(() => undefined);
    },
    { name: "free_hang", description: "Hangs.", schema: z.object({}) },
  );
  const model = openAI(plan({ calls: [{ name: "free_hang", arguments: {} }] }, { text: "Never." }));
  const agent = createAgent({ model, tools: [hang], middleware: [guardMiddleware(guard)] });
  await assert.rejects(agent.invoke(ask("Go"), { signal: controller.signal }));
});

test("what goes straight to the user, Commands and artifacts are judged as well", async () => {
  const { guard } = ward();
  const direct = tool(async () => `Write to ${mail}.`, {
    name: "free_direct",
    description: "Answers itself.",
    schema: z.object({}),
    returnDirect: true,
  });
  const first = await createAgent({
    model: openAI(plan({ calls: [{ name: "free_direct", arguments: {} }] }, { text: "Never." })),
    tools: [direct],
    middleware: [guardMiddleware(guard)],
  }).invoke(ask("Go"));
  assert.ok(!JSON.stringify(first.messages).includes(mail));

  const command = tool(
    async (_: object, config) =>
      new Command({
        update: {
          messages: [
            new ToolMessage({
              content: poisoned,
              tool_call_id:
                (config as { toolCall?: { id: string } }).toolCall?.id ??
                (config as { toolCallId?: string }).toolCallId ??
                "",
            }),
          ],
        },
      }),
    { name: "free_command", description: "Updates the state.", schema: z.object({}) },
  );
  const second = await createAgent({
    model: openAI(plan({ calls: [{ name: "free_command", arguments: {} }] }, { text: "Done." })),
    tools: [command],
    middleware: [guardMiddleware(guard)],
  }).invoke(ask("Go"));
  assert.doesNotMatch(JSON.stringify(second.messages), /maintenance mode/);
  assert.equal(text(second.messages.at(-1)), "Done.");

  const artifact = tool(async () => ["A table.", { rows: [{ mail }] }], {
    name: "free_artifact",
    description: "Has an artifact.",
    schema: z.object({}),
    responseFormat: "content_and_artifact",
  });
  const third = await createAgent({
    model: openAI(plan({ calls: [{ name: "free_artifact", arguments: {} }] }, { text: "Done." })),
    tools: [artifact],
    middleware: [guardMiddleware(guard)],
  }).invoke(ask("Go"));
  assert.equal(text(toolMessages(third.messages)[0]), "A table.");
  assert.ok(!JSON.stringify(toolMessages(third.messages)[0]?.artifact).includes(mail));
});

test("a call's arguments are redacted before the tool has them", async () => {
  const { guard } = ward();
  let got = "";
  const send = tool(
    async ({ to }: { to: string }) => {
      got = to;
      return "sent";
    },
    { name: "free_send", description: "Sends.", schema: z.object({ to: z.string() }) },
  );
  await createAgent({
    model: openAI(plan({ calls: [{ name: "free_send", arguments: { to: `Dear ${mail}` } }] }, { text: "Done." })),
    tools: [send],
    middleware: [guardMiddleware(guard)],
  }).invoke(ask("Go"));
  assert.match(got, /^Dear /);
  assert.ok(!got.includes(mail));
});

test("a tool whose description is poisoned is not offered", async () => {
  const { guard } = ward();
  let body = "";
  const model = openAI(plan({ text: "Done." }), async (input, init) => {
    body = String(init?.body);
    return fetch(input, init);
  });
  const bad = tool(async () => "x", { name: "free_bad", description: injection, schema: z.object({}) });
  await createAgent({ model, tools: [bad, ...tools().all], middleware: [guardMiddleware(guard)] }).invoke(ask("Go"));
  assert.ok(body.includes("read_document") && !body.includes("free_bad"), body);
});

test("LangGraph's own ToolNode", async () => {
  const { guard } = ward();
  const { ran, all } = tools();
  const node = new ToolNode(guardTools(guard, all));
  const call = (id: string, name: string, args: object) => ({
    id,
    name,
    args: { ...args },
    type: "tool_call" as const,
  });
  const said = new AIMessage({
    content: "",
    tool_calls: [call("c1", "query_database", { query: billing }), call("c2", "read_document", { name: "intake" })],
  });
  const { messages } = (await node.invoke({ messages: [new HumanMessage("Hi"), said] })) as { messages: ToolMessage[] };
  assert.deepEqual(
    messages.map((m) => m.status),
    ["error", "error"],
  );
  assert.deepEqual(ran, ["read_document intake"]);
  assert.match(text(messages[0]), /billing/);
  assert.doesNotMatch(text(messages[1]), /maintenance mode/);
});

test("guard.wrap takes models and tools; what cannot be guarded is said", async () => {
  const { guard } = ward();
  const wrapped = guard.wrap(openAI(leak));
  assert.ok(!text(await wrapped.invoke("Whom do I write to?")).includes(mail));
  assert.ok(!text(await guard.wrap(anthropic(leak)).invoke("Whom do I write to?")).includes(mail));
  const [, query] = tools().all;
  await assert.rejects(
    guard.wrap(query as never as { invoke(i: object): Promise<unknown> }).invoke({ query: billing }),
    /billing/,
  );
});

test("structured output is judged as well", async () => {
  const { guard } = ward();
  const schema = z.object({ contact: z.string() });
  let name = "";
  const spy = openAI(plan({ text: "Done." }), async (input, init) => {
    const tools = (JSON.parse(String(init?.body)) as { tools?: { function: { name: string } }[] }).tools;
    name = tools?.[0]?.function.name ?? "";
    return fetch(input, init);
  });
  // The form is a tool, and its name is LangChain's.
  await createAgent({ model: spy, tools: [], responseFormat: schema })
    .invoke(ask("Go"))
    .catch(() => undefined);
  assert.notEqual(name, "");
  name = name.replace(/\d+$/, (n) => String(Number(n) + 1)); // each agent's form has a number of its own
  const contact = (n: string) => openAI(plan({ calls: [{ name: n, arguments: { contact: `Ask ${mail}` } }] }));
  const idle = createMiddleware({ name: "Idle", wrapModelCall: (request, handler) => handler(request) });
  const control = await createAgent({ model: contact(name), tools: [], responseFormat: schema, middleware: [idle] })
    .invoke(ask("Go"))
    .catch(() => undefined);
  if (!control) return; // LangChain 1.0 knows no structured output with any middleware around the model
  const next = name.replace(/\d+$/, (n) => String(Number(n) + 1));
  const agent = createAgent({
    model: contact(next),
    tools: [],
    responseFormat: schema,
    middleware: [guardMiddleware(guard)],
  });
  const result = await agent.invoke(ask("Go"));
  assert.match(result.structuredResponse.contact, /^Ask /);
  assert.ok(!JSON.stringify(result).includes(mail), JSON.stringify(result));
});

test("the kill switch stops an agent that is in the middle of its work", async () => {
  const { guard, agent: name } = ward();
  const { ran, all } = tools();
  const stop = tool(
    async () => {
      server.run("kill", name, "--reason", "test");
      return "ok";
    },
    { name: "free_stop", description: "Is killed.", schema: z.object({}) },
  );
  const model = openAI(
    plan(
      { calls: [{ name: "free_stop", arguments: {} }] },
      { calls: [{ name: "query_database", arguments: { query: appointments } }] },
      { text: "Done." },
    ),
  );
  const agent = createAgent({ model, tools: [stop, ...all], middleware: [guardMiddleware(guard)] });
  const error = await agent.invoke(ask("Go")).then(
    () => undefined,
    (e: unknown) => e,
  );
  assert.ok(blockedBy(error), String(error));
  assert.deepEqual(ran, []);
  server.run("lift", name, "--reason", "test");
});

test("without a server tool calls are refused and texts pass, and the agent is told", async () => {
  const { ran, all } = tools();
  const agent = createAgent({ model: openAI(story), tools: all, middleware: [guardMiddleware(lost())] });
  const result = await agent.invoke(ask("When is my next appointment?"));
  assert.deepEqual(ran, []);
  assert.ok(toolMessages(result.messages).every((m) => m.status === "error" && /could not be asked/.test(text(m))));
  assert.match(text(result.messages.at(-1)), /9 March/);
});

test("guard.session names the session, whatever the thread is called", async () => {
  const { guard, agent: name } = ward();
  const agent = createAgent({
    model: openAI(leak),
    tools: [],
    checkpointer: new MemorySaver(),
    middleware: [guardMiddleware(guard)],
  });
  await guard.session("s-17", () => agent.invoke(ask("Hi"), { configurable: { thread_id: "other" } }));
  assert.ok(decisions(name).every((d) => d.session === "s-17"));
});
