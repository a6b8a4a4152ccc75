// Reads the table of contents of a ZIP file: what is in an evidence package, shown
// before it leaves the browser. Contents are not unpacked.

export interface ZipFile {
  name: string;
  size: number;
}

/** contents lists the files of a ZIP archive from its central directory. */
export function contents(zip: Uint8Array): ZipFile[] {
  const v = new DataView(zip.buffer, zip.byteOffset, zip.byteLength);
  // The end record is the last 22 bytes plus a comment of at most 65535.
  let end = zip.length - 22;
  while (end >= 0 && end >= zip.length - 22 - 0xffff && v.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0 || v.getUint32(end, true) !== 0x06054b50) throw new Error("the package is not a complete ZIP file");
  const count = v.getUint16(end + 10, true);
  let at = v.getUint32(end + 16, true);
  const out: ZipFile[] = [];
  const utf8 = new TextDecoder();
  for (let i = 0; i < count; i++) {
    if (at + 46 > zip.length || v.getUint32(at, true) !== 0x02014b50) throw new Error("the package's table of contents is damaged");
    const name = v.getUint16(at + 28, true);
    const size = v.getUint32(at + 24, true);
    const file = utf8.decode(zip.subarray(at + 46, at + 46 + name));
    if (!file.endsWith("/")) out.push({ name: file, size });
    at += 46 + name + v.getUint16(at + 30, true) + v.getUint16(at + 32, true);
  }
  return out;
}
