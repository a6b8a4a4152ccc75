import { expect, test, vi } from "vitest";
import { stack } from "../chart";
import type { Entry } from "../entry";
import { add, merge, type Rows } from "../feed";
import { rawMember } from "../rawjson";
import { href, parse } from "../router";
import { globMatch, ruleLines } from "../rulelines";
import { follow, type Message, Parser } from "../sse";
import { ago, clock, count, micros } from "../time";
import { contents } from "../zip";

const bytes = (s: string) => new TextEncoder().encode(s);
const text = (b: Uint8Array | undefined) => (b ? new TextDecoder().decode(b) : undefined);

test.each([
  ['{"entry":{"a":1.0,"b":[1,2,{"c":"}\\""}]},"proof":"x"}', '{"a":1.0,"b":[1,2,{"c":"}\\""}]}'],
  ['{"proof":"\\"entry\\":","entry":  {"z":0.80,"1":2} \n}', '{"z":0.80,"1":2}'],
  ['{"x":{"entry":1},"entry":-1e5}', "-1e5"],
  ['{"\\u0065ntry":"é\\u202e"}', '"é\\u202e"'],
  ['{"entry":true,"a":null}', "true"],
  ['{"a":[],"b":{}}', undefined],
  ["[]", undefined],
])("rawMember of %s", (src, want) => {
  expect(text(rawMember(bytes(src), "entry"))).toBe(want);
});

test("an event stream is read the same, however it is cut", () => {
  const src = ": hello\n\nid: 7\ndata: {\"a\":1}\n\nevent: note\r\ndata: one\r\ndata:two\r\rid: 8\ndata: é\n\ndata: cut";
  const whole: Message[] = [];
  new Parser((m) => whole.push(m)).push(src);
  expect(whole).toEqual([
    { id: "7", event: "message", data: '{"a":1}' },
    { id: "7", event: "note", data: "one\ntwo" },
    { id: "8", event: "message", data: "é" },
  ]);
  for (let n = 1; n < 6; n++) {
    const got: Message[] = [];
    const p = new Parser((m) => got.push(m));
    for (let i = 0; i < src.length; i += n) p.push(src.slice(i, i + n));
    expect(got, `pieces of ${n}`).toEqual(whole);
  }
});

test("a stream that ends is taken up again behind the last event", async () => {
  const stop = new AbortController();
  const asked: (string | null)[] = [];
  const got: string[] = [];
  const states: string[] = [];
  const answers = ["id: 4\ndata: a\n\n", "id: 5\ndata: b\n\n", ""];
  let last: string | undefined;
  await follow({
    url: "/stream",
    lastEventId: () => last,
    onMessage: (m) => {
      last = m.id;
      got.push(m.data);
    },
    onState: (s) => states.push(s),
    signal: stop.signal,
    backoff: () => 0,
    fetch: vi.fn((_: unknown, init?: RequestInit) => {
      asked.push(new Headers(init?.headers).get("Last-Event-ID"));
      const a = answers.shift();
      if (a === undefined) stop.abort();
      if (a === "") return Promise.reject(new TypeError("network down"));
      return Promise.resolve(new Response(a ?? ""));
    }) as unknown as typeof fetch,
  });
  expect(got).toEqual(["a", "b"]);
  expect(asked).toEqual([null, "4", "5", "5"]);
  expect(states).toContain("waiting");
});

test("a refused stream is not asked for again", async () => {
  const states: string[] = [];
  const f = vi.fn(() => Promise.resolve(new Response("", { status: 401 })));
  await follow({ url: "/s", lastEventId: () => undefined, onMessage: () => {}, onState: (s) => states.push(s), signal: new AbortController().signal, fetch: f as unknown as typeof fetch });
  expect(f).toHaveBeenCalledTimes(1);
  expect(states.at(-1)).toBe("refused");
});

const entry = (seq: number) => ({ id: `id-${seq}`, seq }) as unknown as Entry;
const seqs = (r: Rows) => r.rows.map((e) => e.seq);

test("the feed has no doubles, and its order is newest first", () => {
  let r: Rows = { rows: [entry(2), entry(1)], waiting: [], count: 0 };
  r = add(r, [entry(2), entry(3), entry(4)], false);
  expect(seqs(r)).toEqual([4, 3, 2, 1]);
  r = add(r, [entry(5)], true);
  r = add(r, [entry(5), entry(6)], true);
  expect(seqs(r)).toEqual([4, 3, 2, 1]);
  expect(r.count).toBe(2);
  expect(seqs(merge(r))).toEqual([6, 5, 4, 3, 2, 1]);
});

test("what was held in excess leaves no hole in the list", () => {
  let r: Rows = { rows: [entry(1)], waiting: [], count: 0 };
  r = add(r, [entry(2), entry(3), entry(4), entry(5)], true, 3);
  expect(r.count).toBe(4);
  expect(seqs(merge(r, 3))).toEqual([5, 4, 3]);
});

const policy = `policy: billing-bot
version: 1
agents: ["billing-bot"]
# what it may use
tools:
  - name: query_database
    allow:
      query: {type: sql, tables: [products, orders]}
      limit:
        type: number
        max: 10
  - {name: send_email, deny: "no"}
  - name: "fs_*"
    deny: "this agent has no business with files"
findings:
- {class: prompt_injection, channels: [input], action: block}
- class: pii
  channels: [output]
  action: redact
limits: {tool_calls_per_minute: 60}
on_error: {tool_call: block}
`;

test.each([
  ["billing-bot/tools/query_database/query", 7, 7],
  ["billing-bot/tools/query_database/limit", 8, 10],
  ["billing-bot/tools/query_database", 5, 10],
  ["billing-bot/tools/query_database/nothing", 5, 10],
  ["billing-bot/tools/send_email", 11, 11],
  ["billing-bot/tools/fs_write", 12, 13],
  ["billing-bot/tools/unheard_of", 4, 4],
  ["billing-bot/findings/prompt_injection", 15, 15],
  ["billing-bot/findings/pii", 16, 18],
  ["billing-bot/limits/tool_calls_per_minute", 19, 19],
  ["billing-bot/on_error/tool_call", 20, 20],
])("the lines of %s", (rule, from, to) => {
  expect(ruleLines(policy, rule)).toEqual({ from, to });
});

test("a rule that the text does not hold marks nothing", () => {
  for (const r of ["containment/agent", "billing-bot/findings/secret", "billing-bot", ""]) expect(ruleLines(policy, r)).toBeUndefined();
});

test("globs", () => {
  expect(globMatch("fs_*", "fs_read")).toBe(true);
  expect(globMatch("fs_?", "fs_read")).toBe(false);
  expect(globMatch("a.b", "axb")).toBe(false);
});

test("links and places are each other's inverse", () => {
  expect(href(["sessions", "a/b ?#"])).toBe("/sessions/a%2Fb%20%3F%23");
  expect(parse("/sessions/a%2Fb%20%3F%23", "").path).toEqual(["sessions", "a/b ?#"]);
  expect(parse("/", "?agent=x").query.get("agent")).toBe("x");
  expect(parse("/events/%E0%A4%A", "").path).toEqual(["events", "%E0%A4%A"]);
  expect(href([""], { agent: "a&b", type: undefined })).toBe("/?agent=a%26b");
});

test("the chart's columns are sums, strictest first", () => {
  const [x, block, , , , , allow] = stack([{ time: "2026-01-02T03:04:00Z", actions: { allow: 5, block: 2, flag: 1 } }]);
  expect(x).toEqual([1767323040]);
  expect(block).toEqual([8]);
  expect(allow).toEqual([5]);
});

test("numbers and times", () => {
  expect(count(1234567)).toBe("1\u202f234\u202f567");
  expect(micros(950)).toBe("950 µs");
  expect(micros(1500)).toBe("1.50 ms");
  const now = new Date(2026, 0, 2, 3, 4, 5, 6);
  expect(clock(now, now)).toBe("03:04:05.006");
  expect(clock(new Date(2026, 0, 1), now)).toBe("2026-01-01 00:00:00.000");
  expect(ago(new Date(now.getTime() - 90_000), now)).toBe("1 min");
});

test("a ZIP's contents, and a file that is none", () => {
  // One stored file "a/b.txt" of two bytes, made by hand from the format.
  const name = bytes("a/b.txt");
  const central = new Uint8Array(46 + name.length);
  const c = new DataView(central.buffer);
  c.setUint32(0, 0x02014b50, true);
  c.setUint32(24, 2, true);
  c.setUint16(28, name.length, true);
  central.set(name, 46);
  const end = new Uint8Array(22);
  const d = new DataView(end.buffer);
  d.setUint32(0, 0x06054b50, true);
  d.setUint16(10, 1, true);
  d.setUint32(16, 0, true);
  expect(contents(new Uint8Array([...central, ...end]))).toEqual([{ name: "a/b.txt", size: 2 }]);
  expect(() => contents(bytes("not a zip"))).toThrow("not a complete ZIP");
});
