// What agents said is hostile wherever it is shown. This file turns a string into
// pieces: ordinary text, and characters that would otherwise move, hide or reorder
// what stands beside them, each as its code point. Nothing here makes markup.

export type Piece = { text: string } | { code: string; name: string };

const names: Record<number, string> = {
  0x00: "null", 0x07: "bell", 0x08: "backspace", 0x09: "tab", 0x0a: "line feed", 0x0d: "carriage return", 0x1b: "escape",
  0x7f: "delete", 0xad: "soft hyphen", 0x34f: "combining grapheme joiner", 0x61c: "Arabic letter mark",
  0x115f: "Hangul filler", 0x1160: "Hangul filler", 0x180e: "Mongolian vowel separator",
  0x200b: "zero width space", 0x200c: "zero width non-joiner", 0x200d: "zero width joiner",
  0x200e: "left-to-right mark", 0x200f: "right-to-left mark", 0x2028: "line separator", 0x2029: "paragraph separator",
  0x202a: "left-to-right embedding", 0x202b: "right-to-left embedding", 0x202c: "pop directional formatting",
  0x202d: "left-to-right override", 0x202e: "right-to-left override", 0x2060: "word joiner",
  0x2066: "left-to-right isolate", 0x2067: "right-to-left isolate", 0x2068: "first strong isolate",
  0x2069: "pop directional isolate", 0x3164: "Hangul filler", 0xfeff: "zero width no-break space", 0xffa0: "Hangul filler",
};

/** hidden reports whether a code point shows nothing by itself or changes how its neighbours are shown. */
function hidden(c: number): boolean {
  return (
    c < 0x20 ||
    (c >= 0x7f && c <= 0x9f) ||
    c in names ||
    (c >= 0x2061 && c <= 0x206f) ||
    (c >= 0xfff9 && c <= 0xfffb) ||
    (c >= 0xd800 && c <= 0xdfff) || // half of a pair
    (c >= 0xe000 && c <= 0xf8ff) || // private use
    (c >= 0xe0000 && c <= 0xe0fff) || // tags and variation selectors
    c >= 0xf0000
  );
}

const mark = /^\p{M}$/u;

/** maxMarks is how many combining marks may stand on one letter before the rest are shown as codes. */
const maxMarks = 4;

/**
 * pieces splits a string for display. In a block (lines true) line feeds and tabs
 * keep their meaning; in one line they are shown as codes, too.
 */
export function pieces(s: string, lines = false): Piece[] {
  const out: Piece[] = [];
  let run = "";
  let marks = 0;
  for (const ch of s) {
    const c = ch.codePointAt(0) ?? 0;
    marks = mark.test(ch) ? marks + 1 : 0;
    const ordinary = lines && (c === 0x0a || c === 0x09) ? true : !hidden(c) && marks <= maxMarks;
    if (ordinary) {
      run += ch;
      continue;
    }
    if (run) out.push({ text: run });
    run = "";
    const hex = c.toString(16).toUpperCase().padStart(4, "0");
    out.push({ code: `U+${hex}`, name: names[c] ?? (c < 0x20 ? "control character" : "invisible character") });
  }
  if (run) out.push({ text: run });
  return out;
}

/** plain is pieces as one string, for titles, tooltips and the clipboard of a label. */
export function plain(s: string, max = 300): string {
  const cut = clip(s, max);
  return pieces(cut.head)
    .map((p) => ("text" in p ? p.text : `\u27e8${p.code}\u27e9`))
    .join("") + (cut.rest > 0 ? ` \u2026 (${cut.rest} more characters)` : "");
}

/** clip keeps at most max UTF-16 units, never half of a pair; rest says how many were left out. */
export function clip(s: string, max: number): { head: string; rest: number } {
  if (s.length <= max) return { head: s, rest: 0 };
  const last = s.charCodeAt(max - 1);
  const end = last >= 0xd800 && last <= 0xdbff ? max - 1 : max;
  return { head: s.slice(0, end), rest: s.length - end };
}
