import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { InMemoryTransport } from "@modelcontextprotocol/sdk/inMemory.js";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import {
  CallToolRequestSchema,
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  GetPromptRequestSchema,
  ListPromptsRequestSchema,
  ListResourcesRequestSchema,
  ListToolsRequestSchema,
  LoggingMessageNotificationSchema,
  ReadResourceRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { guardClient, guardTransport } from "guardbook/mcp";
import {
  appointments,
  billing,
  server as book,
  decisions,
  injection,
  lost,
  mail,
  meeting,
  poisoned,
  ward,
} from "./world.js";

const schema = { type: "object" as const, properties: { query: { type: "string" } } };

/** A server of the practice, with everything that a server may have. */
function clinic() {
  const ran: string[] = [];
  const met = meeting(2);
  const server = new Server(
    { name: "whatever-it-says", version: "1" },
    {
      capabilities: { tools: {}, resources: {}, prompts: {}, logging: {} },
      instructions: "Reads documents.",
    },
  );
  server.setRequestHandler(ListToolsRequestSchema, async () => ({
    tools: [
      { name: "query_database", description: "Runs a read-only SQL query.", inputSchema: schema },
      {
        name: "read_document",
        description: "Reads a document.",
        inputSchema: { type: "object" as const, properties: { name: { type: "string" } } },
      },
      { name: "free_bad", description: injection, inputSchema: schema },
      {
        name: "free_table",
        description: "Gives a table.",
        inputSchema: { type: "object" as const },
        outputSchema: {
          type: "object" as const,
          properties: { contact: { type: "string" }, account: { type: "number" } },
          required: ["contact"],
        },
      },
    ],
  }));
  server.setRequestHandler(CallToolRequestSchema, async ({ params }, extra) => {
    ran.push(params.name);
    const text = (t: string) => ({ content: [{ type: "text" as const, text: t }] });
    switch (params.name) {
      case "read_document":
        return text(poisoned);
      case "free_meet":
        await met();
        return text(`met ${params.arguments?.n}`);
      case "free_table":
        return { content: [], structuredContent: { contact: `Ask ${mail}`, account: 7 } };
      case "free_fire":
        throw new Error(injection);
      case "free_wrong":
        return { ...text(injection), isError: true };
      case "free_echo":
        return text(JSON.stringify(params.arguments));
      case "free_sample": {
        const said = await server.createMessage({
          messages: [{ role: "user", content: { type: "text", text: String(params.arguments?.text) } }],
          maxTokens: 9,
        });
        return text(JSON.stringify(said.content));
      }
      case "free_ask": {
        const said = await server.elicitInput({
          message: String(params.arguments?.text),
          requestedSchema: { type: "object", properties: { a: { type: "string" } } },
        });
        return text(JSON.stringify(said.content));
      }
      case "free_log":
        await server.sendLoggingMessage({ level: "info", data: injection });
        await server.sendLoggingMessage({ level: "info", data: "all is well" });
        return text("logged");
      case "free_hang":
        await new Promise((resolve) => extra.signal.addEventListener("abort", resolve));
        ran.push("cancelled");
        return text("too late");
      default:
        return text("2026-03-09T10:30 Okafor");
    }
  });
  server.setRequestHandler(ListResourcesRequestSchema, async () => ({
    resources: [
      { uri: "note://1", name: "A note" },
      { uri: "note://2", name: "Bad", description: injection },
    ],
  }));
  server.setRequestHandler(ReadResourceRequestSchema, async ({ params }) => ({
    contents: [{ uri: params.uri, text: params.uri === "note://2" ? poisoned : `Write to ${mail}.` }],
  }));
  server.setRequestHandler(ListPromptsRequestSchema, async () => ({
    prompts: [{ name: "greet" }, { name: "bad", description: injection }],
  }));
  server.setRequestHandler(GetPromptRequestSchema, async ({ params }) => ({
    messages: [
      { role: "user" as const, content: { type: "text" as const, text: params.name === "bad" ? injection : "Hello" } },
    ],
  }));
  return { server, ran };
}

async function connected(guard = ward()) {
  const { server, ran } = clinic();
  const [near, far] = InMemoryTransport.createLinkedPair();
  await server.connect(far);
  const client = new Client({ name: "test", version: "1" }, { capabilities: { sampling: {}, elicitation: {} } });
  await client.connect(guardTransport(guard.guard, near, { server: "clinic", session: "s-mcp" }));
  return { client, ran, agent: guard.agent, near, server };
}

const textOf = (r: unknown) => JSON.stringify((r as { content: unknown }).content);

test("denied calls and results are results with isError, and the client goes on", async () => {
  const { client, ran, agent } = await connected();
  const denied = await client.callTool({ name: "query_database", arguments: { query: billing } });
  assert.equal(denied.isError, true);
  assert.match(textOf(denied), /billing/);
  const read = await client.callTool({ name: "read_document", arguments: { name: "intake" } });
  assert.equal(read.isError, true);
  assert.doesNotMatch(textOf(read), /maintenance mode/);
  const fine = await client.callTool({ name: "query_database", arguments: { query: appointments } });
  assert.match(textOf(fine), /Okafor/);
  assert.deepEqual(ran, ["read_document", "query_database"]);
  const blocks = decisions(agent).filter((d) => d.decision === "block");
  assert.deepEqual(
    blocks.map((d) => `${d.kind} ${d.tool} ${d.path} ${d.session}`),
    ["tool_call query_database inspect/typescript/mcp s-mcp", "tool_result read_document inspect/typescript/mcp s-mcp"],
  );
  assert.ok(
    book.book().some((e) => e.agent === agent && e.tool?.server === "clinic"),
    "the server is called what its user calls it",
  );
});

test("poisoned definitions are left out of lists, and cannot be called either", async () => {
  const { client, ran } = await connected();
  assert.deepEqual(
    (await client.listTools()).tools.map((t) => t.name),
    ["query_database", "read_document", "free_table"],
  );
  const call = await client.callTool({ name: "free_bad", arguments: {} });
  assert.equal(call.isError, true);
  assert.deepEqual(ran, []);
  assert.deepEqual(
    (await client.listResources()).resources.map((r) => r.uri),
    ["note://1"],
  );
  assert.deepEqual(
    (await client.listPrompts()).prompts.map((p) => p.name),
    ["greet"],
  );
});

test("a redacted result fits its schema", async () => {
  const { client } = await connected();
  await client.listTools(); // the client checks results against what it has listed
  const table = await client.callTool({ name: "free_table", arguments: {} });
  const structured = table.structuredContent as { contact: string; account: number };
  assert.match(structured.contact, /^Ask /);
  assert.ok(!structured.contact.includes(mail));
  assert.equal(structured.account, 7);
});

test("arguments are redacted, errors are judged", async () => {
  const { client } = await connected();
  const echo = textOf(await client.callTool({ name: "free_echo", arguments: { to: `Dear ${mail}`, n: 1 } }));
  assert.ok(echo.includes("Dear ") && !echo.includes(mail), echo);
  const fire = await client.callTool({ name: "free_fire", arguments: {} });
  assert.equal(fire.isError, true, "a JSON-RPC error whose words are denied");
  assert.doesNotMatch(textOf(fire), /reveal your system prompt/);
  const wrong = await client.callTool({ name: "free_wrong", arguments: {} });
  assert.equal(wrong.isError, true);
  assert.doesNotMatch(textOf(wrong), /reveal your system prompt/);
});

test("resources and prompts", async () => {
  const { client } = await connected();
  assert.doesNotMatch(JSON.stringify(await client.readResource({ uri: "note://1" })), new RegExp(mail));
  await assert.rejects(client.readResource({ uri: "note://2" }), { code: -32010 });
  await assert.rejects(client.getPrompt({ name: "bad" }), { code: -32010 });
  assert.match(JSON.stringify(await client.getPrompt({ name: "greet" })), /Hello/);
});

test("sampling and elicitation: what the server asks is judged, and what it is told", async () => {
  const { client } = await connected();
  const asked: string[] = [];
  let answer = "Fine.";
  client.setRequestHandler(CreateMessageRequestSchema, async ({ params }) => {
    asked.push(JSON.stringify(params.messages));
    return { role: "assistant" as const, model: "m", content: { type: "text" as const, text: answer } };
  });
  client.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
    asked.push(params.message);
    return { action: "accept" as const, content: { a: answer } };
  });
  for (const name of ["free_sample", "free_ask"]) {
    const fine = await client.callTool({ name, arguments: { text: "Are you well?" } });
    assert.match(textOf(fine), /Fine/, name);
    const bad = await client
      .callTool({ name, arguments: { text: poisoned } })
      .catch((e: Error) => ({ content: e.message }));
    assert.match(textOf(bad), /Blocked/, `${name}: the server is told, and tells`);
    answer = `It is ${mail}.`;
    const leak = await client
      .callTool({ name, arguments: { text: "Whom do I write to?" } })
      .catch((e: Error) => ({ content: e.message }));
    assert.ok(!textOf(leak).includes(mail), textOf(leak));
    answer = "Fine.";
  }
  assert.ok(!asked.some((a) => a.includes("maintenance mode")), asked.join());
});

test("log lines are judged, and the others come", async () => {
  const { client } = await connected();
  const lines: unknown[] = [];
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => void lines.push(params.data));
  assert.match(textOf(await client.callTool({ name: "free_log", arguments: {} })), /logged/);
  assert.deepEqual(lines, ["all is well"], "and before the result that they came before");
});

test("parallel calls run side by side", async () => {
  const { client } = await connected();
  const results = await Promise.all([
    client.callTool({ name: "free_meet", arguments: { n: 1 } }),
    client.callTool({ name: "query_database", arguments: { query: billing } }),
    client.callTool({ name: "free_meet", arguments: { n: 2 } }),
  ]);
  assert.deepEqual(
    results.map((r) => r.isError ?? false),
    [false, true, false],
  );
});

test("a cancelled call reaches the server as cancelled", async () => {
  const { client, ran } = await connected();
  const controller = new AbortController();
  const call = client.callTool({ name: "free_hang", arguments: {} }, undefined, { signal: controller.signal });
  while (!ran.includes("free_hang")) await new Promise((r) => setTimeout(r, 5));
  controller.abort(new Error("enough"));
  await assert.rejects(call);
  while (!ran.includes("cancelled")) await new Promise((r) => setTimeout(r, 5));
});

test("every member of a transport is passed on, in both directions", async () => {
  const { guard } = ward();
  const told: unknown[] = [];
  class Odd {
    #hidden = "private";
    onclose?: () => void;
    onerror?: (e: Error) => void;
    onmessage?: (m: unknown, extra?: unknown) => void;
    sessionId = "sid-1";
    readonly hasPerRequestStream = true;
    async start() {
      told.push(["start", this.#hidden]);
    }
    async send(m: unknown, o?: unknown) {
      told.push(["send", m, o]);
    }
    async close() {
      told.push(["close", this.#hidden]);
      this.onclose?.();
    }
    setProtocolVersion(v: string) {
      told.push(["version", v, this.#hidden]);
    }
    setSupportedProtocolVersions(v: string[]) {
      told.push(["versions", v]);
    }
  }
  const odd = new Odd();
  const t = guardTransport(guard, odd);
  assert.ok(t instanceof Odd);
  await t.start();
  t.setProtocolVersion("2025-11-25");
  t.setSupportedProtocolVersions(["a"]);
  assert.equal(t.sessionId, "sid-1");
  t.sessionId = "sid-2";
  assert.equal(odd.sessionId, "sid-2");
  assert.equal(t.hasPerRequestStream, true);
  const got: unknown[] = [];
  t.onmessage = (m, extra) => got.push([m, extra]);
  let closed = false;
  t.onclose = () => {
    closed = true;
  };
  const note = { jsonrpc: "2.0", method: "notifications/odd", params: { unknown: [1, { deep: true }] } };
  odd.onmessage?.(note, { authInfo: 1 });
  assert.deepEqual(got, [[note, { authInfo: 1 }]]);
  const options = { relatedRequestId: 7, resumptionToken: "r", onresumptiontoken: () => undefined };
  await t.send(
    { jsonrpc: "2.0", id: "x", method: "odd/method", params: { _meta: { progressToken: "p" }, odd: 1 } },
    options,
  );
  assert.deepEqual(told.at(-1), [
    "send",
    { jsonrpc: "2.0", id: "x", method: "odd/method", params: { _meta: { progressToken: "p" }, odd: 1 } },
    options,
  ]);
  await t.close();
  assert.ok(closed);
  assert.deepEqual(told.slice(0, 3), [
    ["start", "private"],
    ["version", "2025-11-25", "private"],
    ["versions", ["a"]],
  ]);
});

test("around a server: calls are judged before its handlers have them", async () => {
  const { guard } = ward();
  const { server, ran } = clinic();
  const [near, far] = InMemoryTransport.createLinkedPair();
  await server.connect(guardTransport(guard, far, { server: "clinic" }));
  const client = new Client({ name: "test", version: "1" }, { capabilities: {} });
  await client.connect(near);
  assert.equal((await client.callTool({ name: "query_database", arguments: { query: billing } })).isError, true);
  assert.equal((await client.callTool({ name: "read_document", arguments: { name: "x" } })).isError, true);
  assert.ok(!(await client.listTools()).tools.some((t) => t.name === "free_bad"));
  assert.deepEqual(ran, ["read_document"]);
});

test("guardClient and guard.wrap; the kill switch; no server", async () => {
  const { guard, agent } = ward();
  for (const make of [(c: Client) => guardClient(guard, c, { server: "clinic" }), (c: Client) => guard.wrap(c)]) {
    const { server } = clinic();
    const [near, far] = InMemoryTransport.createLinkedPair();
    await server.connect(far);
    const client = make(new Client({ name: "test", version: "1" }, { capabilities: {} }));
    await client.connect(near);
    assert.equal((await client.callTool({ name: "query_database", arguments: { query: billing } })).isError, true);
    assert.match(
      textOf(await client.callTool({ name: "query_database", arguments: { query: appointments } })),
      /Okafor/,
    );
  }
  const { client, ran } = await connected({ guard, agent, key: "" });
  book.run("kill", agent, "--reason", "test");
  const killed = await client.callTool({ name: "query_database", arguments: { query: appointments } });
  assert.equal(killed.isError, true);
  assert.deepEqual(ran, []);

  const alone = await connected({ guard: lost(), agent: "", key: "" });
  const refused = await alone.client.callTool({ name: "query_database", arguments: { query: appointments } });
  assert.match(textOf(refused), /could not be asked/);
  assert.deepEqual(alone.ran, []);
  assert.equal((await alone.client.listTools()).tools.length, 4, "texts pass, and are recorded as unguarded");
});
