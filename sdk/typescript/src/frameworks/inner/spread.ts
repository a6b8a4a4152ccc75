// A value of any shape as the texts in it. JSON would not do: a line break becomes \n
// there, and the word behind it begins with an n.

// More texts than this are judged as one.
const most = 512;

/** The texts of a value, and the value with other texts in their places. */
export interface Spread {
  texts: string[];
  rebuild(texts: readonly string[]): unknown;
}

// Names that say nothing about what they name.
const silent = new Set(["text", "content", "value", "output", "result", "message"]);

/** Takes a value apart. Its shape stays; a number that is redacted becomes a text. */
export function spread(value: unknown): Spread {
  if (typeof value === "string") return { texts: [value], rebuild: ([t]) => t ?? "" };
  const texts: string[] = [];
  const heads: string[] = [];
  const path = new Set<object>();
  let whole = false;
  const walk = (v: unknown, name: string | undefined): void => {
    const text = leaf(v);
    if (text !== undefined) {
      // With its name: "password: hunter2" says more than "hunter2".
      const head = name === undefined || silent.has(name) ? "" : `${name}: `;
      heads.push(head);
      texts.push(head + text);
    } else if (typeof v === "object" && v !== null) {
      if (path.has(v)) {
        whole = true; // a cycle
        return;
      }
      path.add(v);
      if (Array.isArray(v)) for (const x of v) walk(x, name);
      else if (plain(v)) for (const [k, x] of Object.entries(v)) walk(x, k);
      else if (String(v) !== "[object Object]") whole = true;
      else for (const [k, x] of Object.entries(v)) walk(x, k);
      path.delete(v);
    }
  };
  walk(value, undefined);
  if (whole || texts.length > most) return asOne(value);
  return {
    texts,
    rebuild(after) {
      let i = 0;
      const build = (v: unknown): unknown => {
        if (leaf(v) !== undefined) {
          const head = heads[i] ?? "";
          const before = texts[i];
          const text = after[i++] ?? "";
          if (text === before) return v;
          return text.startsWith(head) ? text.slice(head.length) : text;
        }
        if (Array.isArray(v)) return v.map(build);
        if (typeof v !== "object" || v === null) return v;
        return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, build(x)]));
      };
      return build(value);
    },
  };
}

/** The text of a leaf. Of numbers only long ones say something: of a card, of an account. */
function leaf(v: unknown): string | undefined {
  if (typeof v === "string") return v === "" ? undefined : v;
  if (typeof v === "bigint") return String(v);
  if (typeof v === "number" && Math.abs(v) >= 1e8) return String(v);
  return undefined;
}

function asOne(value: unknown): Spread {
  let text: string;
  try {
    // Line breaks as blanks: they part words.
    text = (JSON.stringify(value) ?? String(value)).replace(/\\[nrt]/g, "  ");
  } catch {
    text = String(value);
  }
  return {
    texts: [text],
    rebuild([after = ""]) {
      try {
        return JSON.parse(after);
      } catch {
        return after;
      }
    },
  };
}

function plain(v: object): boolean {
  const proto: unknown = Object.getPrototypeOf(v);
  return proto === null || proto === Object.prototype;
}
