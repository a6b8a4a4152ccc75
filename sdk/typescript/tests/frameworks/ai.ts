// The AI SDK's stories, told to each of its versions.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Guard } from "guardbook";
import { blockedBy, guardModel, guardTools, type LanguageModel } from "guardbook/ai";
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
  plan,
  poisoned,
  server,
  ward,
} from "./world.js";

interface Step {
  content: { type: string; toolName?: string; error?: unknown; output?: unknown }[];
}
interface Result {
  text: string;
  steps: Step[];
}
interface Stream {
  fullStream: AsyncIterable<{ type: string; text?: string; delta?: string; error?: unknown; [m: string]: unknown }>;
  text: PromiseLike<string>;
}
type Options = {
  model: unknown;
  tools?: object;
  prompt: string;
  system?: string;
  abortSignal?: AbortSignal;
  maxRetries?: number;
  onError?: (e: unknown) => void;
  includeRawChunks?: boolean;
  providerOptions?: object;
};

/** What a version of the SDK has. */
export interface SDK {
  generate(o: Options): Promise<Result>;
  stream(o: Options): Stream;
  tool(t: object): object;
  models: Record<string, (id: string, fetch?: typeof globalThis.fetch) => unknown>;
  middleware(model: unknown, guard: Guard): unknown;
  /** Whether a tool may be a generator. */
  generators: boolean;
}

export function story(name: string, sdk: SDK): void {
  const { tool } = sdk;
  const tools = () => {
    const ran: string[] = [];
    return {
      ran,
      all: {
        read_document: tool({
          description: "Reads a document of the practice.",
          inputSchema: z.object({ name: z.string() }),
          execute: async (i: { name: string }) => noted(ran.push(`read_document ${i.name}`), poisoned),
        }),
        query_database: tool({
          description: "Runs a read-only SQL query.",
          inputSchema: z.object({ query: z.string() }),
          execute: async (i: { query: string }) =>
            noted(ran.push(`query_database ${i.query}`), { rows: ["2026-03-09T10:30 Okafor"] }),
        }),
      },
    };
  };
  const ward4711 = plan(
    { calls: [{ name: "read_document", arguments: { name: "intake" } }] },
    { calls: [{ name: "query_database", arguments: { query: billing } }] },
    { calls: [{ name: "query_database", arguments: { query: appointments } }] },
    { text: "Your next appointment is on 9 March." },
  );
  const leak = plan({ text: `Please write to ${mail} for more, she answers within the day.` });
  const model = (id: string) => sdk.models.chat?.(id) as LanguageModel;
  const parts = async (s: Stream) => {
    const all: { type: string; text?: string; delta?: string; error?: unknown }[] = [];
    for await (const p of s.fullStream) all.push(p);
    return all;
  };
  const said = (all: { type: string; text?: string; delta?: string }[]) =>
    all.filter((p) => p.type === "text-delta").map((p) => p.text ?? p.delta ?? "");

  for (const [api, make] of Object.entries(sdk.models)) {
    for (const streamed of [false, true]) {
      test(`${name}, ${api}, ${streamed ? "streamed" : "whole"}: denied calls and results are tool errors, and the agent goes on`, async () => {
        const { guard, agent } = ward({ session: "s-ai" });
        const { ran, all } = tools();
        const options: Options = {
          model: guardModel(guard, make(ward4711) as LanguageModel),
          tools: guardTools(guard, all),
          prompt: "When is my next appointment?",
          system: "You help patients.",
          providerOptions: { openai: { store: false } }, // or a later request only refers to what was said
        };
        let text: string;
        let errors: unknown[];
        if (streamed) {
          const got = await parts(sdk.stream(options));
          text = said(got).join("");
          errors = got.filter((p) => p.type === "tool-error").map((p) => p.error);
        } else {
          const result = await sdk.generate(options);
          text = result.text;
          errors = result.steps
            .flatMap((s) => s.content)
            .filter((p) => p.type === "tool-error")
            .map((p) => p.error);
        }
        assert.equal(text, "Your next appointment is on 9 March.");
        assert.deepEqual(ran, ["read_document intake", `query_database ${appointments}`]);
        assert.equal(errors.length, 2);
        assert.match(String(errors[0]), /Blocked/);
        assert.doesNotMatch(String(errors[0]), /maintenance mode/);
        assert.match(String(errors[1]), /billing/);
        const book = decisions(agent);
        assert.ok(book.every((d) => d.session === "s-ai" && d.path === "inspect/typescript/ai"));
        assert.deepEqual(
          book.filter((d) => d.decision === "block").map((d) => `${d.kind} ${d.tool}`),
          ["tool_result read_document", "tool_call query_database"],
        );
      });
    }

    test(`${name}, ${api}: an output is redacted, whole, streamed and by middleware`, async () => {
      const { guard } = ward();
      for (const guarded of [guardModel(guard, make(leak) as LanguageModel), sdk.middleware(make(leak), guard)]) {
        const result = await sdk.generate({ model: guarded, prompt: "Whom do I write to?" });
        assert.match(result.text, /^Please write to .* within the day/);
        assert.ok(!JSON.stringify(result, hidden).includes(mail), "also not in the response's body");
        const got = await parts(sdk.stream({ model: guarded, prompt: "Whom do I write to?", includeRawChunks: true }));
        assert.match(said(got).join(""), /^Please write to .* within the day/);
        assert.ok(!JSON.stringify(got, hidden).includes(mail));
      }
    });

    test(`${name}, ${api}: through the gateway it is streamed word by word, and redacted`, async () => {
      const { guard } = ward();
      const got = await parts(sdk.stream({ model: make(leak, guard.fetch), prompt: "Whom do I write to?" }));
      assert.ok(said(got).length > 5, `${said(got).length} pieces`);
      assert.match(said(got).join(""), /within the day/);
      assert.ok(!JSON.stringify(got, hidden).includes(mail));
    });
  }

  test(`${name}: through the gateway, a denied call still goes back to the model`, async () => {
    const { guard } = ward();
    const { ran, all } = tools();
    const result = await sdk.generate({
      model: sdk.models.chat?.(ward4711, guard.fetchWith({ toolCalls: "asked" })),
      tools: guardTools(guard, all),
      prompt: "When?",
    });
    assert.match(result.text, /9 March/);
    assert.deepEqual(ran, ["read_document intake", `query_database ${appointments}`]);
  });

  test(`${name}: a denied input throws GuardBlocked, and the model is not asked`, async () => {
    const { guard } = ward();
    let asked = 0;
    const spy = sdk.models.chat?.(leak, async (...a: Parameters<typeof fetch>) =>
      noted(asked++, fetch(...a)),
    ) as LanguageModel;
    const error = await sdk.generate({ model: guardModel(guard, spy), prompt: injection }).then(
      () => undefined,
      (e: unknown) => e,
    );
    assert.ok(blockedBy(error), String(error));
    assert.equal(asked, 0);
    const errors: unknown[] = [];
    const stream = sdk.stream({
      model: guardModel(guard, spy),
      prompt: injection,
      onError: (e) => errors.push((e as { error: unknown }).error),
    });
    await parts(stream).catch((e: unknown) => errors.push(e));
    assert.ok(
      errors.some((e) => blockedBy(e)),
      errors.join(),
    );
    assert.equal(asked, 0);

    const through = await sdk.generate({ model: sdk.models.chat?.(leak, guard.fetch), prompt: injection }).then(
      () => undefined,
      (e: unknown) => e,
    );
    assert.equal((through as { statusCode?: number }).statusCode, 403);
    assert.ok(blockedBy(through), "out of the provider's error, too");
  });

  test(`${name}: a denied output in a stream is an error part, and nothing of it is seen`, async () => {
    const { guard, agent } = ward();
    const stream = sdk.stream({
      model: guardModel(guard, killing(model(leak), agent)),
      prompt: "Hi",
      onError: () => undefined,
    });
    const got = await parts(stream);
    assert.deepEqual(said(got), []);
    assert.ok(
      got.some((p) => p.type === "error" && blockedBy(p.error)),
      JSON.stringify(got),
    );
  });

  test(`${name}: a call of a tool that runs elsewhere is judged before it is given out`, async () => {
    const { guard } = ward();
    const elsewhere = {
      query_database: tool({ description: "Runs at the client.", inputSchema: z.object({ query: z.string() }) }),
    };
    const asks = (query: string) =>
      guardModel(guard, model(plan({ calls: [{ name: "query_database", arguments: { query } }] })));
    const denied = await sdk.generate({ model: asks(billing), tools: guardTools(guard, elsewhere), prompt: "Go" }).then(
      () => undefined,
      (e: unknown) => e,
    );
    assert.ok(blockedBy(denied));
    const got = await parts(
      sdk.stream({ model: asks(billing), tools: elsewhere, prompt: "Go", onError: () => undefined }),
    );
    assert.ok(!got.some((p) => p.type.startsWith("tool-")), "not even its name, or a piece of its input");
    const fine = await sdk.generate({ model: asks(appointments), tools: elsewhere, prompt: "Go" });
    assert.ok(fine.steps[0]?.content.some((p) => p.type === "tool-call"));
  });

  test(`${name}: parallel calls run side by side, and each is judged for itself`, async () => {
    const { guard } = ward();
    const met = meeting(2);
    const { ran, all } = tools();
    const meet = tool({
      description: "Meets.",
      inputSchema: z.object({ n: z.number() }),
      execute: async (i: { n: number }) => noted(await met(), `met ${i.n}`),
    });
    const result = await sdk.generate({
      model: guardModel(
        guard,
        model(
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
        ),
      ),
      tools: guardTools(guard, { ...all, free_meet: meet }),
      prompt: "Go",
    });
    assert.deepEqual(
      result.steps[0]?.content
        .filter((p) => p.type !== "tool-call")
        .map((p) => p.type)
        .sort(),
      ["tool-error", "tool-result", "tool-result"],
    );
    assert.deepEqual(ran, []);
  });

  test(`${name}: errors in tools, generators, and arguments that are redacted`, async () => {
    const { guard } = ward();
    let got = "";
    const list = {
      free_a: tool({
        description: "Breaks.",
        inputSchema: z.object({}),
        execute: async () => {
          throw new Error("the printer is on fire");
        },
      }),
      free_b: tool({
        description: "Breaks.",
        inputSchema: z.object({}),
        execute: async () => {
          throw new Error(injection);
        },
      }),
      free_c: tool({
        description: "Tells.",
        inputSchema: z.object({}),
        execute: sdk.generators
          ? async function* () {
              yield "half";
              yield `all of it, ${mail}`;
            }
          : async () => `all of it, ${mail}`,
      }),
      free_d: tool({
        description: "Sends.",
        inputSchema: z.object({ to: z.string() }),
        execute: async (i: { to: string }) => {
          got = i.to;
          return "sent";
        },
      }),
    };
    const calls = [
      { name: "free_a", arguments: {} },
      { name: "free_b", arguments: {} },
      { name: "free_c", arguments: {} },
      { name: "free_d", arguments: { to: `Dear ${mail}` } },
    ];
    const result = await sdk.generate({
      model: guardModel(guard, model(plan({ calls }, { text: "Sorry." }))),
      tools: guardTools(guard, list),
      prompt: "Go",
    });
    const outcome = Object.fromEntries(
      result.steps[0]?.content
        .filter((p) => p.type !== "tool-call")
        .map((p) => [p.toolName, String(p.error ?? p.output)]) ?? [],
    );
    assert.match(outcome.free_a ?? "", /on fire/);
    assert.match(outcome.free_b ?? "", /Blocked/);
    assert.match(outcome.free_c ?? "", /^all of it, /);
    assert.ok(!outcome.free_c?.includes(mail));
    assert.ok(got.startsWith("Dear ") && !got.includes(mail), got);
    assert.equal(result.text, "Sorry.");
  });

  test(`${name}: a run that is cancelled ends, also while a tool runs`, async () => {
    const { guard } = ward();
    const controller = new AbortController();
    const hang = tool({
      description: "Hangs.",
      inputSchema: z.object({}),
      execute: (_: object, o: { abortSignal?: AbortSignal }) =>
        new Promise((_resolve, reject) => {
          o.abortSignal?.addEventListener("abort", () => reject(o.abortSignal?.reason));
          controller.abort(new Error("enough"));
        }),
    });
    await assert.rejects(
      sdk.generate({
        model: guardModel(guard, model(plan({ calls: [{ name: "free_hang", arguments: {} }] }, { text: "Never." }))),
        tools: guardTools(guard, { free_hang: hang }),
        prompt: "Go",
        abortSignal: controller.signal,
      }),
    );
  });

  test(`${name}: the kill switch, and no server`, async () => {
    const { guard, agent } = ward();
    const { ran, all } = tools();
    const stop = tool({
      description: "Is killed.",
      inputSchema: z.object({}),
      execute: async () => noted(server.run("kill", agent, "--reason", "test"), "ok"),
    });
    const working = plan(
      { calls: [{ name: "free_stop", arguments: {} }] },
      { calls: [{ name: "query_database", arguments: { query: appointments } }] },
      { text: "Done." },
    );
    const error = await sdk
      .generate({
        model: guardModel(guard, model(working)),
        tools: guardTools(guard, { ...all, free_stop: stop }),
        prompt: "Go",
      })
      .then(
        (r) => r.text,
        (e: unknown) => e,
      );
    assert.ok(blockedBy(error), String(error));
    assert.deepEqual(ran, []);

    const alone = lost();
    const result = await sdk.generate({
      model: guardModel(alone, model(ward4711)),
      tools: guardTools(alone, all),
      prompt: "When?",
    });
    assert.deepEqual(ran, []);
    assert.match(result.text, /9 March/);
  });
}

/** A model whose agent is killed while it answers. */
function killing(model: LanguageModel, agent: string): LanguageModel {
  return new Proxy(model, {
    get(target, member) {
      const value: unknown = Reflect.get(target, member, target);
      if (member !== "doStream") return typeof value === "function" ? value.bind(target) : value;
      return async (o: unknown) => {
        const result: unknown = await target.doStream(o);
        server.run("kill", agent, "--reason", "test");
        return result;
      };
    },
  });
}

/** Leaves out what the test itself sent: the request. */
function hidden(key: string, value: unknown): unknown {
  return key === "request" || key === "modelId" || key === "model" ? undefined : value;
}
