import { expect, test } from "vitest";
import { base64, check, fromBase64, leafHash, parseCheckpoint, parseKey, parseProof, rootFromPath, verifySignature } from "../merkle";
import file from "./proofs.json";

const bytes = (s: string) => new TextEncoder().encode(s);

test("every proof made by sumdb/tlog is found good, root and signature", async () => {
  expect(file.vectors.length).toBeGreaterThan(50);
  for (const v of file.vectors) {
    const verdict = await check(bytes(v.entry), v.proof, v.index, file.key);
    expect(verdict, `leaf ${v.index} of ${v.size}`).toMatchObject({ matches: true, index: v.index, size: v.size, signature: true });
  }
});

test("a changed byte of the entry changes the root", async () => {
  for (const v of file.vectors) {
    const raw = bytes(v.entry);
    const at = (v.index * 7) % raw.length;
    raw[at] = (raw[at] ?? 0) ^ 1;
    expect((await check(raw, v.proof, v.index, file.key)).matches).toBe(false);
  }
});

test("a changed hash of the path changes the root", async () => {
  for (const v of file.vectors) {
    const p = parseProof(v.proof);
    for (let i = 0; i < p.path.length; i++) {
      const path = p.path.map((h) => h.slice());
      const h = path[i];
      if (h) h[5] = (h[5] ?? 0) ^ 0x10;
      const root = await rootFromPath(await leafHash(bytes(v.entry)), v.index, v.size, path);
      expect(base64(root)).not.toBe(base64(p.checkpoint.root));
    }
  }
});

test("a path of the wrong length is refused, not computed", async () => {
  for (const v of file.vectors) {
    const p = parseProof(v.proof);
    const leaf = await leafHash(bytes(v.entry));
    await expect(rootFromPath(leaf, v.index, v.size, [...p.path, leaf])).rejects.toThrow("longer");
    if (p.path.length > 0) await expect(rootFromPath(leaf, v.index, v.size, p.path.slice(1))).rejects.toThrow(/shorter|longer/);
  }
});

test("another place in the tree is refused", async () => {
  const v = file.vectors.find((x) => x.size === 8 && x.index === 3);
  if (!v) throw new Error("no such vector");
  await expect(check(bytes(v.entry), v.proof, 4, file.key)).rejects.toThrow("leaf 3");
  const moved = v.proof.replace("index 3", "index 4");
  expect((await check(bytes(v.entry), moved, 4, file.key)).matches).toBe(false);
  await expect(check(bytes(v.entry), v.proof.replace("index 3", "index 8"), 8, file.key)).rejects.toThrow("outside");
});

test("a checkpoint with another text is not signed", async () => {
  const v = file.vectors[5];
  if (!v) throw new Error("no vector");
  const c = parseProof(v.proof).checkpoint;
  expect(await verifySignature(c, file.key)).toBe(true);
  expect(await verifySignature({ ...c, text: c.text.replace("guardbook", "guardbooK") }, file.key)).toBe(false);
  expect(await verifySignature({ ...c, signatures: [] }, file.key)).toBe(false);
});

test.each([
  ["nothing", "", "no checkpoint"],
  ["another version", "c2sp.org/tlog-proof@v2\nindex 0\n\nx", "version 1"],
  ["no index", "c2sp.org/tlog-proof@v1\n\nx", "no index"],
  ["a number with a leading zero", "c2sp.org/tlog-proof@v1\nindex 01\n\nx", "not a number"],
  ["a short hash", "c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\nx", "3 bytes"],
  ["no signatures", "c2sp.org/tlog-proof@v1\nindex 0\n\nlog\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n", "no signatures"],
])("a proof with %s is an error in words", (_, text, message) => {
  expect(() => parseProof(text)).toThrow(message);
});

test("base64 has one spelling", () => {
  expect(base64(fromBase64("AQI="))).toBe("AQI=");
  for (const bad of ["AQI", "AQJ=", "A QI=", "-_8="]) expect(() => fromBase64(bad)).toThrow("base64");
});

test("a verifier key whose hash is not its own is refused", async () => {
  await expect(parseKey(file.key.replace(/\+[0-9a-f]{8}\+/, "+00000000+"))).rejects.toThrow("hash");
  await expect(parseKey("nonsense")).rejects.toThrow("cannot be read");
});

test("a checkpoint keeps the text that was signed", () => {
  const note = "log\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n\u2014 log AAAAAAE=\n";
  expect(parseCheckpoint(note)).toMatchObject({ origin: "log", size: 7, text: "log\n7\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n" });
});
