import assert from "node:assert/strict";
import { test } from "node:test";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { createMcpHandler, fromJsonSchema, inputRequired, McpServer } from "@modelcontextprotocol/server";
import { guardTransport } from "guardbook/mcp";
import { appointments, billing, decisions, injection, mail, meeting, noted, poisoned, ward } from "./world.js";

function clinic() {
  const ran: string[] = [];
  const met = meeting(2);
  const object = (properties: object) =>
    fromJsonSchema<Record<string, string>>({ type: "object", properties } as never);
  const text = (t: string) => ({ content: [{ type: "text" as const, text: t }] });
  const handler = createMcpHandler(() => {
    const server = new McpServer({ name: "clinic", version: "1" }, { instructions: "Reads documents." });
    const add = (
      name: string,
      description: string,
      properties: object,
      run: (args: Record<string, string>, ctx: never) => unknown,
    ) =>
      server.registerTool(name, { description, inputSchema: object(properties) }, (async (
        args: Record<string, string>,
        ctx: never,
      ) => {
        ran.push(name);
        return run(args, ctx);
      }) as never);
    const words = { type: "string" };
    add("query_database", "Runs a read-only SQL query.", { query: words }, () => text("2026-03-09T10:30 Okafor"));
    add("read_document", "Reads a document.", { name: words }, () => text(poisoned));
    add("free_bad", injection, {}, () => text("x"));
    add("free_echo", "Echoes.", { to: { type: "string", "x-mcp-header": "To" }, body: words }, (args) =>
      text(JSON.stringify(args)),
    );
    add("free_meet", "Meets.", { n: words }, async (args) => noted(await met(), text(`met ${args.n}`)));
    add("free_fire", "Breaks.", {}, () => {
      throw new Error(injection);
    });
    add("free_ask", "Asks back.", { text: words }, (args, ctx) => {
      const answers = (ctx as { mcpReq?: { inputResponses?: Record<string, { content?: { a?: string } }> } }).mcpReq
        ?.inputResponses;
      if (answers) return text(`heard ${JSON.stringify(answers)}`);
      return inputRequired({
        inputRequests: {
          q: inputRequired.elicit({
            message: String(args.text),
            requestedSchema: { type: "object", properties: { a: { type: "string" } } } as never,
          }),
        },
      });
    });
    add("free_table", "Gives a table.", {}, () => ({
      content: [],
      structuredContent: { contact: `Ask ${mail}`, account: 7 },
    }));
    server.registerResource("note", "note://1", {}, (async () => ({
      contents: [{ uri: "note://1", text: poisoned }],
    })) as never);
    return server;
  });
  return { handler, ran };
}

async function connected(pin: "modern" | "legacy") {
  const { handler, ran } = clinic();
  const seen: { headers: Headers; body: string }[] = [];
  const transport = new StreamableHTTPClientTransport(new URL("http://clinic.example/mcp"), {
    fetch: async (url, init) => {
      seen.push({ headers: new Headers(init?.headers), body: String(init?.body) });
      return handler.fetch(new Request(url, init));
    },
  });
  const { guard, agent } = ward({ session: "s-mcp2" });
  const client = new Client(
    { name: "test", version: "1" },
    {
      capabilities: { elicitation: {} },
      versionNegotiation: { mode: pin === "modern" ? { pin: "2026-07-28" } : "legacy" },
    },
  );
  await client.connect(guardTransport(guard, transport, { server: "clinic" }));
  return { client, ran, seen, agent };
}

const textOf = (r: unknown) => JSON.stringify((r as { content: unknown }).content);

for (const era of ["legacy", "modern"] as const) {
  test(`${era}: denied calls and results are results with isError, and the client goes on`, async () => {
    const { client, ran, agent } = await connected(era);
    const denied = await client.callTool({ name: "query_database", arguments: { query: billing } });
    assert.equal(denied.isError, true);
    assert.match(textOf(denied), /billing/);
    const read = await client.callTool({ name: "read_document", arguments: { name: "intake" } });
    assert.equal(read.isError, true);
    assert.doesNotMatch(textOf(read), /maintenance mode/);
    assert.match(
      textOf(await client.callTool({ name: "query_database", arguments: { query: appointments } })),
      /Okafor/,
    );
    assert.deepEqual(ran, ["read_document", "query_database"]);
    assert.deepEqual(
      decisions(agent)
        .filter((d) => d.decision === "block")
        .map((d) => `${d.kind} ${d.tool}`),
      ["tool_call query_database", "tool_result read_document"],
    );
  });

  test(`${era}: lists, resources, errors and structured results`, async () => {
    const { client, ran } = await connected(era);
    const { tools } = await client.listTools();
    assert.ok(!tools.some((t) => t.name === "free_bad") && tools.length === 7, tools.map((t) => t.name).join());
    assert.equal((await client.callTool({ name: "free_bad", arguments: {} })).isError, true);
    assert.deepEqual(ran, []);
    await assert.rejects(client.readResource({ uri: "note://1" }), /Blocked/);
    const fire = await client.callTool({ name: "free_fire", arguments: {} });
    assert.equal(fire.isError, true);
    assert.doesNotMatch(textOf(fire), /reveal your system prompt/);
    const table = (await client.callTool({ name: "free_table", arguments: {} })).structuredContent as {
      contact: string;
      account: number;
    };
    assert.ok(table.contact.startsWith("Ask ") && !table.contact.includes(mail));
    assert.equal(table.account, 7);
  });

  test(`${era}: parallel calls run side by side`, async () => {
    const { client } = await connected(era);
    const results = await Promise.all([
      client.callTool({ name: "free_meet", arguments: { n: "1" } }),
      client.callTool({ name: "query_database", arguments: { query: billing } }),
      client.callTool({ name: "free_meet", arguments: { n: "2" } }),
    ]);
    assert.deepEqual(
      results.map((r) => r.isError ?? false),
      [false, true, false],
    );
  });
}

test("modern: a redacted argument is redacted in its header, too", async () => {
  const { client, seen } = await connected("modern");
  await client.listTools(); // the client learns which arguments it repeats
  for (const to of [mail, `Dear ${mail}, grüß`]) {
    const echo = await client.callTool({ name: "free_echo", arguments: { to, body: "Hello" } });
    assert.notEqual(echo.isError, true, textOf(echo));
    assert.ok(!textOf(echo).includes(mail));
    const { headers, body } = seen.at(-1) ?? {};
    const header = headers?.get("mcp-param-to") ?? "";
    const plain = header.startsWith("=?base64?") ? Buffer.from(header.slice(9, -2), "base64").toString() : header;
    assert.ok(plain !== "" && !plain.includes(mail), plain);
    assert.ok(body?.includes(JSON.stringify(plain).slice(1, -1)));
  }
});

test("modern: what a result asks for is judged, and what goes back", async () => {
  const { client } = await connected("modern");
  const asked: string[] = [];
  let answer = "Fine.";
  client.setRequestHandler("elicitation/create", async ({ params }) => {
    asked.push(params.message);
    return { action: "accept" as const, content: { a: answer } };
  });
  assert.match(
    textOf(await client.callTool({ name: "free_ask", arguments: { text: "Are you well?" } })),
    /heard .*Fine/,
  );
  const bad = await client.callTool({ name: "free_ask", arguments: { text: poisoned } });
  assert.equal(bad.isError, true);
  assert.deepEqual(asked, ["Are you well?"]);
  answer = `It is ${mail}.`;
  const leak = await client.callTool({ name: "free_ask", arguments: { text: "Whom do I write to?" } });
  assert.equal(leak.isError, true);
  assert.ok(!textOf(leak).includes(mail));
});

test("modern: cancelling a call closes its request", async () => {
  const { client, ran } = await connected("modern");
  const controller = new AbortController();
  const call = client.callTool({ name: "free_meet", arguments: { n: "1" } }, { signal: controller.signal });
  while (!ran.includes("free_meet")) await new Promise((r) => setTimeout(r, 5));
  controller.abort(new Error("enough"));
  await assert.rejects(call);
});
