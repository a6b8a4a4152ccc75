import { GuardBlocked } from "guardbook";
import { expect, test } from "vitest";
import { route, unveil, veil } from "../dist/esm/model/route.js";
import { CommentFinder, watch } from "../dist/esm/model/stream.js";

const block = { decision: "block", entry: "e-1", rule: "r", severity: "high", message: "No: ünïcode\n" };
const events = 'data: {"a":1}\n\n: ka\n\ndata: {"t":": guardbook {}"}\r\n\r\n';
const comment = `: guardbook ${JSON.stringify(block)}\n\n`;
const bytes = (s: string) => new TextEncoder().encode(s);

async function read(chunks: Uint8Array[]): Promise<{ text: string; error: unknown }> {
  const source = new ReadableStream<Uint8Array>({
    start(c) {
      for (const chunk of chunks) c.enqueue(chunk);
      c.close();
    },
  });
  let text = "";
  try {
    for await (const chunk of watch(source, (b) => new GuardBlocked(b))) text += Buffer.from(chunk).toString("latin1");
    return { text, error: undefined };
  } catch (error) {
    return { text, error };
  }
}

test("the comment is found wherever the stream is cut, and what came before it arrives", async () => {
  const whole = bytes(`${events}${comment}event: error\ndata: {}\n\n`);
  for (let cut = 0; cut <= whole.length; cut++) {
    const { text, error } = await read([whole.subarray(0, cut), whole.subarray(cut)]);
    expect(error).toBeInstanceOf(GuardBlocked);
    expect(error).toMatchObject(block);
    expect(text.startsWith(events)).toBe(true);
    expect(text).not.toContain("event: error");
  }
  const { error } = await read([...whole].map((b) => Uint8Array.of(b)));
  expect(error).toMatchObject(block);
});

test("a stream without it passes byte for byte", async () => {
  const quiet = `${events}: guardbook\n\n: guardbook not json\n: guardbook {"no":"decision"}\ndata: ${": guardbook ".repeat(20)}\n: guardbook {`;
  for (let cut = 0; cut <= quiet.length; cut++) {
    expect(await read([bytes(quiet.slice(0, cut)), bytes(quiet.slice(cut))])).toEqual({
      text: quiet,
      error: undefined,
    });
  }
});

test("a line without an end does not fill the memory", () => {
  const f = new CommentFinder();
  expect(f.next(bytes(": guardbook {"))).toBeUndefined();
  for (let i = 0; i < 200; i++) expect(f.next(new Uint8Array(1000).fill(32))).toBeUndefined();
  expect(f.next(bytes(`\n${comment}`))).toMatchObject({ before: 1 });
});

test("URLs lead to the server's paths and to the upstream", () => {
  const cases: [string, Parameters<typeof route>[1], string, string][] = [
    ["https://api.openai.com/v1/chat/completions", undefined, "/openai/v1/chat/completions", "https://api.openai.com"],
    [
      "https://openrouter.ai/api/v1/chat/completions?x=1",
      "openai",
      "/openai/v1/chat/completions?x=1",
      "https://openrouter.ai/api",
    ],
    [
      "https://api.anthropic.com/v1/messages?beta=true",
      undefined,
      "/anthropic/v1/messages?beta=true",
      "https://api.anthropic.com",
    ],
    ["https://api.anthropic.com/v1/models", "anthropic", "/anthropic/v1/models", "https://api.anthropic.com"],
    [
      "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=1",
      "azure",
      "/azure/openai/deployments/d/chat/completions?api-version=1",
      "https://r.openai.azure.com",
    ],
    [
      "https://r.openai.azure.com/openai/deployments/d/chat/completions",
      undefined,
      "/azure/openai/deployments/d/chat/completions",
      "https://r.openai.azure.com",
    ],
    [
      "https://r.openai.azure.com/openai/v1/responses",
      "openai",
      "/openai/v1/responses",
      "https://r.openai.azure.com/openai",
    ],
  ];
  for (const [url, provider, path, upstream] of cases) expect(route(url, provider)).toMatchObject({ path, upstream });
  expect(route("https://example.com/chat/completions")).toBeUndefined();
  for (const base of ["https://api.openai.com/v1", "http://127.0.0.1:1", "https://r.azure.com/openai/deployments/d"]) {
    const hidden = veil(base);
    expect(new URL(hidden).hostname).toMatch(/\.invalid$/);
    expect(veil(hidden)).toBe(hidden);
    expect(unveil(`${hidden}/x?y=1`)).toEqual({ url: `${base}/x?y=1`, veiled: true });
  }
});
