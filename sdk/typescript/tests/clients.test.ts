import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Guard, GuardBlocked } from "guardbook";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, folder, injection, plan, StandIn, TestServer } from "./server.js";

// The versions differ in their types where the tests do not: one of them gives the types.
type OpenAIModule = typeof import("openai-v6");
type AnthropicModule = typeof import("anthropic-v1");

let standIn: StandIn;
let server: TestServer;
let guard: Guard;
let responder: Guard;

beforeAll(async () => {
  standIn = await StandIn.start();
  server = await TestServer.start({ standIn: standIn.url });
  const key = server.agent();
  guard = new Guard({ agent: "billing-bot", url: server.url, key, data: folder(), budgetMs: 5000 });
  responder = new Guard({
    agent: "billing-bot",
    url: server.url,
    key,
    data: folder(),
    budgetMs: 5000,
    block: "respond",
  });
});
afterAll(async () => {
  await guard.close();
  await responder.close();
  await server.kill();
  standIn.stop();
});

const hello = plan({ text: "Hello there, this is a quiet answer." });
const secretly = plan({
  text: "All is well so far. The key is AKIAQ3EGRFXW7PLN4ZKT, do keep it to yourself.",
});
const dropping = plan({ calls: [{ name: "drop_table", arguments: { name: "customers" } }] }, { text: "Done." });
const querying = plan(
  { calls: [{ name: "query_database", arguments: { query: "SELECT 1" } }] },
  { text: "It is one." },
);
const endless = plan({ text: "And so on and on. ", pace_ms: 5, repeat: 4000 });
const user = (content: string) => [{ role: "user" as const, content }];
const tools = ["query_database", "drop_table"].map((name) => ({
  type: "function" as const,
  function: { name, description: "A tool.", parameters: { type: "object", properties: {} } },
}));

function last(session: string) {
  return server.decisions(session).at(-1);
}

async function caught(p: Promise<unknown>): Promise<Error> {
  return await p.then(
    () => new Error("nothing was thrown"),
    (e: unknown) => e as Error,
  );
}

describe.each([
  ["openai 4", "openai-v4"],
  ["openai 5", "openai-v5"],
  ["openai 6", "openai-v6"],
  ["openai 7", "openai-v7"],
])("%s", (_, module) => {
  let OpenAI: OpenAIModule["OpenAI"];
  let AzureOpenAI: OpenAIModule["AzureOpenAI"];
  let plain: InstanceType<OpenAIModule["OpenAI"]>;
  let client: typeof plain;
  const session = (name: string) => `${module}-${name}`;

  beforeAll(async () => {
    ({ OpenAI, AzureOpenAI } = (await import(module)) as OpenAIModule);
    plain = new OpenAI({ apiKey: "sk-test", baseURL: `${standIn.url}/openai/v1` });
    client = guard.wrap(plain);
  });

  test("is a client of its class, and the given one is as it was", async () => {
    expect(client).toBeInstanceOf(OpenAI);
    expect(client).not.toBe(plain);
    expect(plain.baseURL).toBe(`${standIn.url}/openai/v1`);
    // It asks for nothing: the numbers before and after it follow each other.
    const look = { kind: "input", content: "x", session: session("plain") } as const;
    await guard.decide(look);
    await plain.chat.completions.create({ model: hello, messages: user("Hello.") });
    await guard.decide(look);
    const [first, second] = server.decisions(session("plain")).map((d) => d.client_seq ?? 0);
    expect(second).toBe((first ?? 0) + 1);
  });

  test("answers, streamed and not; the book has the session and the number", async () => {
    await guard.session(session("chat"), async () => {
      const r = await client.chat.completions.create({ model: hello, messages: user("Hello.") });
      expect(r.choices[0]?.message.content).toBe("Hello there, this is a quiet answer.");
      let text = "";
      for await (const c of await client.chat.completions.create({
        model: hello,
        messages: user("Hello."),
        stream: true,
      })) {
        text += c.choices[0]?.delta.content ?? "";
      }
      expect(text).toBe("Hello there, this is a quiet answer.");
    });
    const ds = server.decisions(session("chat"));
    expect(new Set(ds.map((d) => d.kind))).toEqual(new Set(["input", "output"]));
    expect(new Set(ds.map((d) => d.client))).toEqual(new Set([guard.client]));
    expect(new Set(ds.map((d) => d.client_seq)).size).toBe(2);
  });

  test("a blocked input throws GuardBlocked itself, after one try", async () => {
    const err = await guard.session(session("blocked"), () =>
      caught(client.chat.completions.create({ model: hello, messages: user(injection) }) as Promise<unknown>),
    );
    expect(err).toBeInstanceOf(GuardBlocked);
    expect(err).toBeInstanceOf(OpenAI.OpenAIError);
    expect(err).not.toBeInstanceOf(OpenAI.APIError);
    expect(err).toMatchObject({
      name: "GuardBlocked",
      decision: "block",
      rule: "billing-bot/findings/prompt_injection",
      severity: "critical",
    });
    const ds = server.decisions(session("blocked"));
    expect(new Set(ds.map((d) => d.client_seq)).size).toBe(1);
    expect((err as GuardBlocked).entry).toBe(ds.find((d) => d.decision === "block")?.id);
  });

  test("a blocked output throws in mid-stream, and what came before it arrived", async () => {
    let text = "";
    const err = await caught(
      (async () => {
        for await (const c of await client.chat.completions.create({
          model: secretly,
          messages: user("Hello."),
          stream: true,
        })) {
          text += c.choices[0]?.delta.content ?? "";
        }
      })(),
    );
    expect(err).toBeInstanceOf(GuardBlocked);
    expect(text).toContain("All is well");
    expect(text).not.toContain("AKIA");
  });

  test("a blocked output that is not streamed throws", async () => {
    expect(
      await caught(client.chat.completions.create({ model: secretly, messages: user("Hello.") }) as Promise<unknown>),
    ).toBeInstanceOf(GuardBlocked);
  });

  test("the stream helper gives GuardBlocked itself", async () => {
    const chat = (client.chat.completions as { stream?: typeof client.chat.completions.stream }).stream
      ? client.chat.completions
      : (client as unknown as { beta: { chat: typeof client.chat } }).beta.chat.completions;
    const ok = await chat.stream({ model: hello, messages: user("Hello.") }).finalContent();
    expect(ok).toBe("Hello there, this is a quiet answer.");
    for (const [model, text] of [
      [secretly, "Hello."],
      [hello, injection],
    ] as const) {
      const s = chat.stream({ model, messages: user(text) });
      const heard: unknown[] = [];
      s.on("error", (e: unknown) => heard.push(e));
      const err = await caught(s.finalContent());
      expect(err).toBeInstanceOf(GuardBlocked);
      expect(heard[0]).toBe(err);
    }
  });

  test("runTools goes on when its tools are allowed, and a denied call throws before it runs", async () => {
    const chat = (client.chat.completions as { runTools?: unknown }).runTools
      ? client.chat.completions
      : (client as unknown as { beta: { chat: typeof client.chat } }).beta.chat.completions;
    const ran: string[] = [];
    const runnable = ["query_database", "drop_table"].map((name) => ({
      type: "function" as const,
      function: {
        name,
        description: "A tool.",
        parameters: { type: "object", properties: {} },
        parse: JSON.parse,
        function: () => `${ran.push(name)}`,
      },
    }));
    const run = (model: string) => chat.runTools({ model, messages: user("Hello."), tools: runnable as never });
    expect(await run(querying).finalContent()).toBe("It is one.");
    expect(await caught(run(dropping).finalContent())).toBeInstanceOf(GuardBlocked);
    expect(ran).toEqual(["query_database"]);
  });

  test("a denied tool call throws, streamed and not, and nothing of it is seen", async () => {
    expect(
      await caught(
        client.chat.completions.create({ model: dropping, messages: user("Hello."), tools }) as Promise<unknown>,
      ),
    ).toBeInstanceOf(GuardBlocked);
    let seen = "";
    const err = await caught(
      (async () => {
        for await (const c of await client.chat.completions.create({
          model: dropping,
          messages: user("Hello."),
          tools,
          stream: true,
        }))
          seen += JSON.stringify(c.choices[0]?.delta.tool_calls ?? "");
      })(),
    );
    expect(err).toBeInstanceOf(GuardBlocked);
    expect(seen).not.toContain("drop");
  });

  test("with block: respond, the refusal is the answer", async () => {
    const polite = responder.wrap(plain);
    const r = await polite.chat.completions.create({ model: hello, messages: user(injection) });
    expect(r.choices[0]?.message.content).toContain("policy");
  });

  test("responses, streamed and not, and parsed", async () => {
    if (!("responses" in client)) return;
    const r = await client.responses.create({ model: hello, input: "Hello." });
    expect(r.output_text).toBe("Hello there, this is a quiet answer.");
    const parsed = await client.responses.parse({ model: hello, input: "Hello." });
    expect(parsed.output_text).toContain("quiet answer");
    let text = "";
    for await (const e of await client.responses.create({ model: hello, input: "Hello.", stream: true }))
      if (e.type === "response.output_text.delta") text += e.delta;
    expect(text).toBe("Hello there, this is a quiet answer.");
    expect(
      await caught(client.responses.create({ model: hello, input: injection }) as Promise<unknown>),
    ).toBeInstanceOf(GuardBlocked);
    const err = await caught(
      (async () => {
        for await (const e of await client.responses.create({ model: secretly, input: "Hello.", stream: true }))
          if (e.type === "response.output_text.delta") expect(e.delta).not.toContain("AKIA");
      })(),
    );
    expect(err).toBeInstanceOf(GuardBlocked);
    expect(await caught(client.responses.stream({ model: secretly, input: "Hello." }).finalResponse())).toBeInstanceOf(
      GuardBlocked,
    );
  });

  test("withOptions and withResponse stay guarded", async () => {
    if (client.withOptions) {
      const other = client.withOptions({ timeout: 20_000, maxRetries: 0 });
      expect(other.timeout).toBe(20_000);
      expect(
        await caught(other.chat.completions.create({ model: hello, messages: user(injection) }) as Promise<unknown>),
      ).toBeInstanceOf(GuardBlocked);
    }
    const { data, response } = await client.chat.completions
      .create({ model: hello, messages: user("Hello.") })
      .withResponse();
    expect(data.choices).toHaveLength(1);
    expect(response.headers.get("x-guardbook-decision")).toBe("allow");
  });

  test("cancelling ends the stream all the way up", async () => {
    const c = new AbortController();
    let n = 0;
    await guard.session(session("cancel"), async () => {
      const s = await client.chat.completions.create(
        { model: endless, messages: user("Hello."), stream: true },
        { signal: c.signal },
      );
      for await (const _ of s) if (++n === 20) c.abort();
    });
    expect(n).toBeLessThan(200);
    await eventually(() =>
      server.book().some((e) => e.type === "stream" && e.session === session("cancel") && e.event !== "begin"),
    );
  });

  test("each retry is asked for anew", async () => {
    // A provider that has a bad moment.
    let tries = 0;
    const provider = createServer((request, response) => {
      request.resume().on("end", () => {
        response.writeHead(++tries < 3 ? 500 : 200, { "content-type": "application/json", "retry-after-ms": "1" });
        const message = { role: "assistant", content: "There you are." };
        response.end(
          tries < 3
            ? "{}"
            : JSON.stringify({
                id: "c",
                object: "chat.completion",
                model: "m",
                choices: [{ index: 0, finish_reason: "stop", message }],
              }),
        );
      });
    });
    await new Promise<void>((r) => void provider.listen(0, "127.0.0.1", r));
    const base = `http://127.0.0.1:${(provider.address() as AddressInfo).port}/v1`;
    const flaky = guard.wrap(new OpenAI({ apiKey: "sk-test", baseURL: base, maxRetries: 2 }));
    const r = await guard.session(session("retries"), () =>
      flaky.chat.completions.create({ model: "m", messages: user("Hello.") }),
    );
    provider.close();
    expect(r.choices[0]?.message.content).toBe("There you are.");
    expect(tries).toBe(3);
    expect(new Set(server.decisions(session("retries")).map((d) => d.client_seq)).size).toBe(3);
  });

  test("embeddings, completions and models: guarded or refused, not passed", async () => {
    await client.embeddings.create({ model: hello, input: "Hello.", encoding_format: "float" });
    const err = await guard.session(session("files"), () => caught(client.files.list() as unknown as Promise<unknown>));
    expect(err.message).toContain("Guardbook");
  });

  test("a WebSocket beside the client goes nowhere, and the error says why", async () => {
    expect(client.baseURL).toMatch(/^http:\/\/websockets-are-not-guarded\.guardbook\.invalid\//);
    if (module === "openai-v4" || module === "openai-v5") return; // their real-time module is another
    const { OpenAIRealtimeWS } = (await import(`${module}/realtime/ws`)) as typeof import("openai-v6/realtime/ws");
    const ws = new OpenAIRealtimeWS({ model: "m" }, client);
    const err = await new Promise<Error>((resolve) => ws.on("error", resolve));
    expect(err.message).toContain("websockets-are-not-guarded.guardbook.invalid");
  });

  test("Azure: deployments", async () => {
    const azure = guard.wrap(
      new AzureOpenAI({
        apiKey: "az",
        endpoint: `${standIn.url}/azure`,
        apiVersion: "2026-01-01",
        deployment: "recommender",
      }),
    );
    expect(azure).toBeInstanceOf(AzureOpenAI);
    const r = await guard.session(session("azure"), () =>
      azure.chat.completions.create({ model: "recommender", messages: user("Hello.") }),
    );
    expect(r.choices[0]?.message.content).toContain("Alpine");
    expect(last(session("azure"))?.kind).toBe("output");
    expect(
      await caught(
        azure.chat.completions.create({ model: "recommender", messages: user(injection) }) as Promise<unknown>,
      ),
    ).toBeInstanceOf(GuardBlocked);
  });
});

describe.each([
  ["anthropic 0", "anthropic-v0"],
  ["anthropic 1", "anthropic-v1"],
])("%s", (_, module) => {
  let Anthropic: AnthropicModule["Anthropic"];
  let plain: InstanceType<AnthropicModule["Anthropic"]>;
  let client: typeof plain;

  beforeAll(async () => {
    ({ Anthropic } = (await import(module)) as AnthropicModule);
    plain = new Anthropic({ apiKey: "sk-ant-test", baseURL: `${standIn.url}/anthropic` });
    client = guard.wrap(plain);
  });
  const ask = (model: string, text: string) => ({ model, max_tokens: 100, messages: user(text) });

  test("answers, streamed and not", async () => {
    const r = await guard.session(`${module}-a`, () => client.messages.create(ask(hello, "Hello.")));
    expect(r.content[0]).toMatchObject({ type: "text", text: "Hello there, this is a quiet answer." });
    let text = "";
    for await (const e of await client.messages.create({ ...ask(hello, "Hello."), stream: true }))
      if (e.type === "content_block_delta" && e.delta.type === "text_delta") text += e.delta.text;
    expect(text).toBe("Hello there, this is a quiet answer.");
    expect(await client.messages.stream(ask(hello, "Hello.")).finalText()).toBe(text);
    expect(last(`${module}-a`)).toMatchObject({ kind: "output", client: guard.client });
  });

  test("a block is GuardBlocked itself: input, output, in mid-stream, in the stream helper", async () => {
    const err = await guard.session(`${module}-b`, () =>
      caught(client.messages.create(ask(hello, injection)) as Promise<unknown>),
    );
    expect(err).toBeInstanceOf(GuardBlocked);
    expect(err).toBeInstanceOf(Anthropic.AnthropicError);
    expect(new Set(server.decisions(`${module}-b`).map((d) => d.client_seq)).size).toBe(1);
    expect(await caught(client.messages.create(ask(secretly, "Hello.")) as Promise<unknown>)).toBeInstanceOf(
      GuardBlocked,
    );
    let text = "";
    const mid = await caught(
      (async () => {
        for await (const e of await client.messages.create({ ...ask(secretly, "Hello."), stream: true }))
          if (e.type === "content_block_delta" && e.delta.type === "text_delta") text += e.delta.text;
      })(),
    );
    expect(mid).toBeInstanceOf(GuardBlocked);
    expect(text).toContain("All is well");
    for (const [model, said] of [
      [secretly, "Hello."],
      [hello, injection],
      [dropping, "Hello."],
    ] as const) {
      const s = client.messages.stream(ask(model, said));
      const heard: unknown[] = [];
      s.on("error", (e: unknown) => heard.push(e));
      const e = await caught(s.finalMessage());
      expect(e).toBeInstanceOf(GuardBlocked);
      expect(heard[0]).toBe(e);
    }
  });

  test("a refusal is asked of no other model, and options carry over", async () => {
    const other = client.withOptions({ maxRetries: 0, timeout: 20_000 });
    expect(await caught(other.messages.create(ask(hello, injection)) as Promise<unknown>)).toBeInstanceOf(GuardBlocked);
    const polite = responder.wrap(plain);
    const r = await polite.messages.create(ask(hello, injection));
    expect(r.stop_reason).toBe("end_turn");
  });

  test("cancelling ends the stream", async () => {
    const s = client.messages.stream(ask(endless, "Hello."));
    let n = 0;
    const err = await caught(
      (async () => {
        for await (const _ of s) if (++n === 20) s.abort();
      })(),
    );
    expect(err).not.toBeInstanceOf(GuardBlocked);
    expect(n).toBeLessThan(200);
  });
});

describe("a killed agent", () => {
  test("loses its running stream, and everything after it, as GuardBlocked", async () => {
    const { OpenAI } = await import("openai-v6");
    const { Anthropic } = await import("anthropic-v1");
    const key = server.agent("billing-bot-2");
    const g = new Guard({ agent: "billing-bot-2", url: server.url, key, data: folder(), budgetMs: 5000 });
    const openai = g.wrap(new OpenAI({ apiKey: "k", baseURL: `${standIn.url}/openai/v1` }));
    const anthropic = g.wrap(new Anthropic({ apiKey: "k", baseURL: `${standIn.url}/anthropic` }));
    let n = 0;
    const err = await caught(
      (async () => {
        for await (const _ of await openai.chat.completions.create({
          model: endless,
          messages: user("Hello."),
          stream: true,
        })) {
          if (++n === 5) server.run("kill", "billing-bot-2", "--reason", "a test");
        }
      })(),
    );
    expect(err).toBeInstanceOf(GuardBlocked);
    expect((err as GuardBlocked).rule).toMatch(/^containment\//);
    const message = { model: hello, max_tokens: 9, messages: user("Hello.") };
    expect(await caught(anthropic.messages.create(message) as Promise<unknown>)).toBeInstanceOf(GuardBlocked);
    expect((await g.toolCall({ name: "get_time" })).allowed).toBe(false);
    await expect(g.text("input", "x")).rejects.toBeInstanceOf(GuardBlocked);
    server.run("lift", "billing-bot-2", "--reason", "the test is over");
    expect((await anthropic.messages.create(message)).content).toHaveLength(1);
    await g.close();
  });
});

describe("guard.fetch", () => {
  const body = (text: string, more: object = {}) => ({
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer sk-test" },
    body: JSON.stringify({ model: hello, messages: user(text), ...more }),
  });

  test("guards any client that takes a fetch: a block is an answer that is not retried", async () => {
    const url = `${standIn.url}/openai/v1/chat/completions`;
    const ok = await guard.fetch(url, body("Hello."));
    expect(ok.status).toBe(200);
    const no = await guard.fetch(new Request(url, body(injection)));
    expect(no.status).toBe(403);
    expect(no.headers.get("x-should-retry")).toBe("false");
    expect(((await no.json()) as { error: { guardbook: { decision: string } } }).error.guardbook.decision).toBe(
      "block",
    );
    await expect(guard.fetchWith({ onBlock: "throw" })(url, body(injection))).rejects.toBeInstanceOf(GuardBlocked);
    const s = await guard.fetch(url, body("Hello.", { model: secretly, stream: true }));
    expect(await caught(s.text())).toBeInstanceOf(GuardBlocked);
  });

  test("knows Anthropic by its path, and the server itself by its address", async () => {
    const r = await guard.fetch(`${standIn.url}/anthropic/v1/messages`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-api-key": "k", "anthropic-version": "2023-06-01" },
      body: JSON.stringify({ model: hello, max_tokens: 10, messages: user("Hello.") }),
    });
    expect(r.status).toBe(200);
    const through = await guard.fetch(`${server.url}/openai/v1/chat/completions`, body("Hello."));
    expect(through.status).toBe(200);
  });

  test("refuses what is no such API", async () => {
    await expect(guard.fetch("https://example.com/users")).rejects.toThrow(TypeError);
  });
});

describe("A base URL that does not end with /v1", () => {
  // Compatible APIs at the paths that Gemini's and Perplexity's have.
  const roots = ["/v1beta/openai/", "/v1beta/openai", "/", "", "/v1/accounts/a1/gateway"];
  const seen: string[] = [];
  const provider = createServer(async (req, res) => {
    seen.push(String(req.url));
    const path = /\/(chat\/completions|responses)$/.exec(String(req.url))?.[1];
    const body: Buffer[] = [];
    for await (const piece of req) body.push(piece as Buffer);
    const answer = await fetch(`${standIn.url}/openai/v1/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: Buffer.concat(body),
    });
    res.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "" });
    res.end(Buffer.from(await answer.arrayBuffer()));
  });
  let origin: string;
  beforeAll(async () => {
    await new Promise<void>((r) => provider.listen(0, "127.0.0.1", r));
    origin = `http://127.0.0.1:${(provider.address() as AddressInfo).port}`;
  });
  afterAll(() => provider.close());

  for (const version of ["openai-v4", "openai-v6"]) {
    test.each(roots)(`is the whole base, with ${version}: %j`, async (root) => {
      const { OpenAI } = (await import(version)) as OpenAIModule;
      const c = guard.wrap(new OpenAI({ apiKey: "k", baseURL: origin + root }), { session: `s-${version}${root}` });
      seen.length = 0;
      const answer = await c.chat.completions.create({ model: hello, messages: user("Hello.") });
      expect(answer.choices[0]?.message.content).toContain("quiet answer");
      expect(seen).toEqual([`${root.replace(/\/$/, "")}/chat/completions`]);
      expect(new Set(server.decisions(`s-${version}${root}`).map((d) => d.path))).toEqual(new Set(["openai/chat"]));
      expect(await caught(c.chat.completions.create({ model: hello, messages: user(injection) }))).toBeInstanceOf(
        GuardBlocked,
      );
      expect(seen).toHaveLength(1);
    });
  }

  test("stays with a client's copies, and can be told to a fetch", async () => {
    const { OpenAI } = await import("openai-v6");
    const c = guard
      .wrap(new OpenAI({ apiKey: "k", baseURL: `${origin}/v1beta/openai/` }))
      .withOptions({ timeout: 9000 });
    seen.length = 0;
    await c.responses.create({ model: hello, input: "Hello." });
    const request = { method: "POST", body: JSON.stringify({ model: hello, messages: user("Hello.") }) };
    const headers = { "content-type": "application/json" };
    const url = `${origin}/v1beta/openai/chat/completions`;
    await expect(guard.fetch(url, { ...request, headers })).rejects.toThrow("guard.fetchWith({ baseURL })");
    const told = guard.fetchWith({ baseURL: `${origin}/v1beta/openai` });
    expect((await told(url, { ...request, headers })).status).toBe(200);
    expect(seen).toEqual(["/v1beta/openai/responses", "/v1beta/openai/chat/completions"]);
  });

  test("that is another one in a copy is guarded, too", async () => {
    const { OpenAI } = await import("openai-v6");
    const c = guard.wrap(new OpenAI({ apiKey: "k", baseURL: `${origin}/v1beta/openai/`, maxRetries: 0 }));
    const other = c.withOptions({ baseURL: `${origin}/other` });
    seen.length = 0;
    await other.chat.completions.create({ model: hello, messages: user("Hello.") });
    expect(seen).toEqual(["/other/chat/completions"]);
  });
});

describe("guard.wrap", () => {
  test("takes whose calls they are", async () => {
    const { OpenAI } = await import("openai-v6");
    const c = guard.wrap(new OpenAI({ apiKey: "k", baseURL: `${standIn.url}/openai/v1/` }), {
      session: "s-mine",
      user: "Zoë",
    });
    await c.chat.completions.create({ model: hello, messages: user("Hello.") });
    expect(last("s-mine")).toMatchObject({ user: "Zoë" });
  });

  test("refuses a client whose address the server could not stand in for", async () => {
    const { AzureOpenAI } = await import("openai-v6");
    const baseURL = "https://example.com/api";
    expect(() => guard.wrap(new AzureOpenAI({ apiKey: "k", apiVersion: "2024-10-21", baseURL }))).toThrow(/Azure's/);
  });

  test("says who may ask about tool calls", async () => {
    const { OpenAI } = await import("openai-v6");
    const wrong = { toolCalls: "yes" as "asked" };
    expect(() => guard.wrap(new OpenAI({ apiKey: "k" }), wrong)).toThrow('toolCalls must be "asked", or left out');
  });

  test("says what it takes", () => {
    for (const x of [{}, [], null, undefined, 7, "OpenAI", () => 1, new Map()]) {
      expect(() => guard.wrap(x as object)).toThrow(/guard\.wrap takes a client of openai .*Anthropic/);
    }
    expect(() => guard.wrap({ callTool() {}, listTools() {} })).toThrow('add import "guardbook/mcp"');
  });
});
