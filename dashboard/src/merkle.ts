// The proof that an entry is in the book, checked in this browser: RFC 6962
// hashing over the exact bytes of the entry, the audit path of a C2SP tlog-proof,
// and the signature on the checkpoint (C2SP signed note, Ed25519). Nothing that
// the server concluded is used, only bytes.

/** Proof is a parsed C2SP tlog-proof v1. */
export interface Proof {
  index: number;
  path: Uint8Array[];
  checkpoint: Checkpoint;
}

/** Checkpoint is a parsed C2SP checkpoint with its signatures. */
export interface Checkpoint {
  origin: string;
  size: number;
  root: Uint8Array;
  /** The signed text, ending in a line feed. */
  text: string;
  signatures: { name: string; keyHash: Uint8Array; signature: Uint8Array }[];
}

const utf8 = new TextEncoder();

export async function sha256(...chunks: Uint8Array[]): Promise<Uint8Array> {
  const all = new Uint8Array(chunks.reduce((n, c) => n + c.length, 0));
  let at = 0;
  for (const c of chunks) {
    all.set(c, at);
    at += c.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all));
}

/** leafHash is SHA-256(0x00 || entry). */
export const leafHash = (raw: Uint8Array) => sha256(Uint8Array.of(0), raw);

/** nodeHash is SHA-256(0x01 || left || right). */
export const nodeHash = (left: Uint8Array, right: Uint8Array) => sha256(Uint8Array.of(1), left, right);

export function hex(b: Uint8Array): string {
  return Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
}

export function base64(b: Uint8Array): string {
  return btoa(Array.from(b, (x) => String.fromCharCode(x)).join(""));
}

/** fromBase64 is strict: standard alphabet, padded, and the only encoding of its bytes. */
export function fromBase64(s: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
  } catch {
    throw new Error(`"${s.slice(0, 40)}" is not base64`);
  }
  if (base64(bytes) !== s) throw new Error(`"${s.slice(0, 40)}" is not canonical base64`);
  return bytes;
}

export const equal = (a: Uint8Array, b: Uint8Array) => a.length === b.length && a.every((x, i) => x === b[i]);

function natural(s: string, what: string): number {
  if (!/^(0|[1-9][0-9]{0,15})$/.test(s)) throw new Error(`${what} "${s.slice(0, 40)}" is not a number`);
  return Number(s);
}

function hash(s: string, what: string): Uint8Array {
  const b = fromBase64(s);
  if (b.length !== 32) throw new Error(`${what} has ${b.length} bytes instead of 32`);
  return b;
}

/**
 * rootFromPath recomputes the root of a tree of `size` leaves from one leaf hash
 * and its audit path (RFC 9162 2.1.3.2). A path of the wrong length is an error.
 */
export async function rootFromPath(leaf: Uint8Array, index: number, size: number, path: Uint8Array[]): Promise<Uint8Array> {
  if (index < 0 || index >= size) throw new Error(`leaf ${index} is outside a tree of ${size} leaves`);
  // Division instead of shifts: JavaScript's shift operators work on 32 bits.
  let fn = index;
  let sn = size - 1;
  let r = leaf;
  for (const p of path) {
    if (sn === 0) throw new Error("the path is longer than the tree is high");
    if (fn % 2 === 1 || fn === sn) {
      r = await nodeHash(p, r);
      while (fn % 2 === 0 && fn !== 0) {
        fn = Math.floor(fn / 2);
        sn = Math.floor(sn / 2);
      }
    } else {
      r = await nodeHash(r, p);
    }
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  if (sn !== 0) throw new Error("the path is shorter than the tree is high");
  return r;
}

/** parseCheckpoint reads a signed note whose text is a C2SP checkpoint. */
export function parseCheckpoint(note: string): Checkpoint {
  const split = note.lastIndexOf("\n\n");
  if (split < 0) throw new Error("the checkpoint has no signatures");
  const text = note.slice(0, split + 1);
  const lines = text.split("\n");
  const [origin, size, root] = lines;
  if (!origin || size === undefined || root === undefined || lines.length < 4) throw new Error("the checkpoint is cut short");
  const signatures = note
    .slice(split + 2)
    .split("\n")
    .filter((l) => l !== "")
    .map((l) => {
      const m = /^\u2014 (\S+) (\S+)$/.exec(l);
      const blob = m ? fromBase64(m[2] ?? "") : new Uint8Array();
      if (!m || blob.length < 5) throw new Error("a signature line of the checkpoint cannot be read");
      return { name: m[1] ?? "", keyHash: blob.slice(0, 4), signature: blob.slice(4) };
    });
  if (signatures.length === 0) throw new Error("the checkpoint has no signatures");
  return { origin, size: natural(size, "the checkpoint's size"), root: hash(root, "the checkpoint's root"), text, signatures };
}

/** parseProof reads a C2SP tlog-proof v1. */
export function parseProof(text: string): Proof {
  const split = text.indexOf("\n\n");
  if (split < 0) throw new Error("the proof has no checkpoint");
  const lines = text.slice(0, split).split("\n");
  if (lines.shift() !== "c2sp.org/tlog-proof@v1") throw new Error("not a tlog-proof of version 1");
  if (lines[0]?.startsWith("extra ")) lines.shift();
  const index = /^index (\S+)$/.exec(lines.shift() ?? "");
  if (!index) throw new Error("the proof names no index");
  return {
    index: natural(index[1] ?? "", "the index"),
    path: lines.map((l, i) => hash(l, `hash ${i + 1} of the path`)),
    checkpoint: parseCheckpoint(text.slice(split + 2)),
  };
}

/** VerifierKey is a parsed C2SP note verifier key: NAME+HASH+BASE64. */
export interface VerifierKey {
  name: string;
  keyHash: Uint8Array;
  key: Uint8Array;
}

/** parseKey reads an Ed25519 verifier key and checks that its hash is its own. */
export async function parseKey(vkey: string): Promise<VerifierKey> {
  const m = /^(.+?)\+([0-9a-f]{8})\+(.+)$/.exec(vkey.trim());
  if (!m) throw new Error("the verifier key cannot be read");
  const [, name = "", id = "", b64 = ""] = m;
  const data = fromBase64(b64);
  if (data[0] !== 1 || data.length !== 33) throw new Error("the verifier key is not an Ed25519 key");
  const keyHash = (await sha256(utf8.encode(`${name}\n`), data)).slice(0, 4);
  if (hex(keyHash) !== id) throw new Error("the verifier key's hash is not that of its bytes");
  return { name, keyHash, key: data.slice(1) };
}

/** verifySignature reports whether a checkpoint carries a good signature of the key. An unsupported algorithm is an error. */
export async function verifySignature(c: Checkpoint, vkey: string): Promise<boolean> {
  const k = await parseKey(vkey);
  const own = c.signatures.filter((s) => s.name === k.name && equal(s.keyHash, k.keyHash));
  if (own.length === 0) return false;
  const key = await crypto.subtle.importKey("raw", new Uint8Array(k.key), { name: "Ed25519" }, false, ["verify"]);
  for (const s of own) {
    if (!(await crypto.subtle.verify({ name: "Ed25519" }, key, new Uint8Array(s.signature), utf8.encode(c.text)))) return false;
  }
  return true;
}

/** Verdict is what this browser found out by itself. */
export interface Verdict {
  leaf: string;
  computed: string;
  stated: string;
  matches: boolean;
  index: number;
  size: number;
  origin: string;
  path: string[];
  /** true: a good signature of the key; false: none or a bad one; a string: why it could not be checked. */
  signature: boolean | string;
}

/** check recomputes the root from the raw bytes of an entry and compares it with the checkpoint's. */
export async function check(raw: Uint8Array, proofText: string, seq: number, vkey?: string): Promise<Verdict> {
  const p = parseProof(proofText);
  if (p.index !== seq) throw new Error(`the proof is for leaf ${p.index}, the entry has sequence ${seq}`);
  const leaf = await leafHash(raw);
  const root = await rootFromPath(leaf, p.index, p.checkpoint.size, p.path);
  let signature: boolean | string = "the verifier key is not known here";
  if (vkey) {
    try {
      signature = await verifySignature(p.checkpoint, vkey);
    } catch (e) {
      signature = e instanceof Error ? e.message : String(e);
    }
  }
  return {
    leaf: base64(leaf),
    computed: base64(root),
    stated: base64(p.checkpoint.root),
    matches: equal(root, p.checkpoint.root),
    index: p.index,
    size: p.checkpoint.size,
    origin: p.checkpoint.origin,
    path: p.path.map(base64),
    signature,
  };
}
