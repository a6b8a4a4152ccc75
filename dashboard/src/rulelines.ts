// Finds the lines of a policy's YAML that a rule id speaks of, so that the reader
// sees the text that decided. It reads indentation, not YAML: the text is shown
// only, and a rule that cannot be found highlights nothing.

/** Lines is a range of line numbers, from 0, both ends included. */
export interface Lines {
  from: number;
  to: number;
}

const indent = (l: string) => l.length - l.trimStart().length;
const blank = (l: string) => /^\s*(#.*)?$/.test(l);
const unquote = (s: string) => s.trim().replace(/^(["'])(.*)\1$/, "$2");

/** globMatch knows "*" and "?", as policies do. */
export function globMatch(glob: string, s: string): boolean {
  const re = glob.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".");
  return new RegExp(`^${re}$`, "s").test(s);
}

/** section is the block under a top-level key, its own line included. */
function section(lines: string[], key: string): Lines | undefined {
  const from = lines.findIndex((l) => l.startsWith(`${key}:`));
  if (from < 0) return undefined;
  let to = from;
  for (let i = from + 1; i < lines.length; i++) {
    const l = lines[i] ?? "";
    if (blank(l)) continue;
    if (indent(l) === 0 && !l.startsWith("-")) break;
    to = i;
  }
  return { from, to };
}

/** items are the list items directly under a section. */
function items(lines: string[], s: Lines): Lines[] {
  const out: Lines[] = [];
  let depth = -1;
  for (let i = s.from + 1; i <= s.to; i++) {
    const l = lines[i] ?? "";
    if (blank(l)) continue;
    const dash = l.trimStart().startsWith("-");
    if (dash && (depth < 0 || indent(l) === depth)) {
      depth = indent(l);
      out.push({ from: i, to: i });
    } else {
      const last = out.at(-1);
      if (last) last.to = i;
    }
  }
  return out;
}

/** value reads a key of an item, in block or flow style. */
function value(lines: string[], item: Lines, key: string): string | undefined {
  const re = new RegExp(`(?:^|[\\s{,-])${key}:\\s*("[^"]*"|'[^']*'|[^,}#]*)`);
  for (let i = item.from; i <= item.to; i++) {
    const m = re.exec(lines[i] ?? "");
    if (m) return unquote(m[1] ?? "");
  }
  return undefined;
}

/** key is the line of a key inside a range, with the lines that belong to it. */
function keyLines(lines: string[], r: Lines, key: string): Lines | undefined {
  const quoted = key.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const re = new RegExp(`(?:^|[\\s{,])["']?${quoted}["']?:`);
  for (let i = r.from; i <= r.to; i++) {
    const l = lines[i] ?? "";
    if (!re.test(l)) continue;
    let to = i;
    while (to + 1 <= r.to && !blank(lines[to + 1] ?? "") && indent(lines[to + 1] ?? "") > indent(l)) to++;
    return { from: i, to };
  }
  return undefined;
}

/**
 * ruleLines finds the lines of rule "POLICY/SECTION/NAME[/ARGUMENT]" in a policy's
 * text. For a tool that no item names (default deny) it is the list's own line.
 */
export function ruleLines(text: string, rule: string): Lines | undefined {
  const lines = text.split("\n");
  const [, what, name, ...rest] = rule.split("/");
  if (!what) return undefined;
  const s = section(lines, what);
  if (!s) return undefined;
  if (!name) return s;
  const list = items(lines, s);
  const key = what === "findings" ? "class" : "name";
  const found = list.find((it) => value(lines, it, key) === name) ?? list.find((it) => globMatch(value(lines, it, key) ?? "", name));
  if (found) {
    const argument = rest[0];
    return (argument && keyLines(lines, found, argument)) || found;
  }
  if (what === "tools") return { from: s.from, to: s.from };
  return keyLines(lines, { from: s.from, to: s.to }, name) ?? undefined;
}
