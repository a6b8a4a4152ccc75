// Bytes as they came. JSON.parse and JSON.stringify do not give back the bytes
// that were hashed, so the entry is cut out of the answer instead.

const quote = 0x22;
const backslash = 0x5c;

/** endOfString is the index after the string that starts at i. */
function endOfString(b: Uint8Array, i: number): number {
  for (let j = i + 1; j < b.length; j++) {
    if (b[j] === backslash) j++;
    else if (b[j] === quote) return j + 1;
  }
  throw new Error("the JSON ends inside a string");
}

function skipSpace(b: Uint8Array, i: number): number {
  while (b[i] === 0x20 || b[i] === 0x0a || b[i] === 0x0d || b[i] === 0x09) i++;
  return i;
}

/** endOfValue is the index after the value that starts at i. The value is known to be well-formed. */
function endOfValue(b: Uint8Array, i: number): number {
  let depth = 0;
  while (i < b.length) {
    const c = b[i];
    if (c === quote) {
      i = endOfString(b, i);
      if (depth === 0) return i;
      continue;
    }
    if (c === 0x7b || c === 0x5b) depth++;
    else if (c === 0x7d || c === 0x5d) {
      if (depth === 0) return i; // the end of what holds a number or a literal
      if (--depth === 0) return i + 1;
    } else if (depth === 0 && (c === 0x2c || c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09)) return i;
    i++;
  }
  return i;
}

/**
 * rawMember returns the exact bytes of a member's value in a JSON object, or
 * undefined when the object has none of that name. The bytes must be well-formed
 * JSON: parse them first.
 */
export function rawMember(b: Uint8Array, name: string): Uint8Array | undefined {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let i = skipSpace(b, 0);
  if (b[i] !== 0x7b) return undefined;
  i = skipSpace(b, i + 1);
  while (i < b.length && b[i] !== 0x7d) {
    const end = endOfString(b, i);
    const key: unknown = JSON.parse(decoder.decode(b.subarray(i, end)));
    i = skipSpace(b, skipSpace(b, end) + 1); // the colon
    const stop = endOfValue(b, i);
    if (key === name) return b.slice(i, stop);
    i = skipSpace(b, stop);
    if (b[i] === 0x2c) i = skipSpace(b, i + 1);
  }
  return undefined;
}
