import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { clip, pieces, plain } from "../text";

const codes = (s: string, lines = false) => pieces(s, lines).flatMap((p) => ("code" in p ? [p.code] : []));

test.each([
  ["right-to-left override", "a\u202Eb", ["U+202E"]],
  ["isolates", "\u2066a\u2069", ["U+2066", "U+2069"]],
  ["escape sequence", "\u001b[31mred", ["U+001B"]],
  ["null and C1", "\0\u009b", ["U+0000", "U+009B"]],
  ["zero width", "pass\u200Bword\uFEFF", ["U+200B", "U+FEFF"]],
  ["tag characters", "\u{E0041}", ["U+E0041"]],
  ["half a pair", "\ud800x", ["U+D800"]],
  ["line and paragraph separators", "\u2028\u2029", ["U+2028", "U+2029"]],
  ["ordinary words in any script", "día שלום مرحبا 你好 🙂", []],
])("%s", (_, s, want) => {
  expect(codes(s)).toEqual(want);
});

test("line feeds and tabs are kept in a block and shown in a line", () => {
  expect(codes("a\n\tb", true)).toEqual([]);
  expect(codes("a\n\tb")).toEqual(["U+000A", "U+0009"]);
  expect(codes("a\rb", true)).toEqual(["U+000D"]);
});

test("stacked marks are shown as codes after the fourth", () => {
  expect(codes("e" + "\u0301".repeat(7))).toHaveLength(3);
});

test("nothing is lost: pieces put together are the string", () => {
  const s = "<script>alert(1)</script>\u202e\u0000 \ud83d\ude42 x\ud800";
  const back = pieces(s).map((p) => ("text" in p ? p.text : String.fromCodePoint(Number.parseInt(p.code.slice(2), 16)))).join("");
  expect(back).toBe(s);
});

test("clip never cuts a pair in two", () => {
  expect(clip("ab🙂", 3)).toEqual({ head: "ab", rest: 2 });
  expect(clip("ab", 2)).toEqual({ head: "ab", rest: 0 });
});

test("plain shows codes and says how much is missing", () => {
  expect(plain("a\u202eb")).toBe("a⟨U+202E⟩b");
  expect(plain("x".repeat(10), 4)).toBe("xxxx … (6 more characters)");
});

const sources = (dir: string): string[] =>
  readdirSync(dir, { withFileTypes: true }).flatMap((e) => (e.isDirectory() ? sources(join(dir, e.name)) : [join(dir, e.name)]));

test("no source makes markup from a string", () => {
  const files = sources("src").filter((f) => /\.tsx?$/.test(f) && !f.includes("/test/"));
  expect(files.length).toBeGreaterThan(15);
  for (const f of files) {
    expect(readFileSync(f, "utf8"), f).not.toMatch(/dangerouslySetInnerHTML|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/);
  }
});
