// Compiles the package twice from the same sources: ES modules into dist/esm, CommonJS
// into dist/cjs. What is there stays usable until the new one is whole.
import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc");
const work = join(root, `.build-${process.pid}`);

/** tsc takes a file's module format from the package.json nearest to its source, so each pass has its own copy. */
async function compile(format, type) {
  const dir = join(work, format);
  mkdirSync(dir, { recursive: true });
  cpSync(join(root, "src"), join(dir, "src"), { recursive: true });
  writeFileSync(join(dir, "package.json"), JSON.stringify({ type }));
  writeFileSync(
    join(dir, "tsconfig.json"),
    JSON.stringify({
      extends: "../../tsconfig.json",
      compilerOptions: { rootDir: "src", outDir: `../dist/${format}` },
      include: ["src"],
    }),
  );
  await promisify(execFile)(process.execPath, [tsc, "-p", dir]).catch((err) => {
    throw new Error(`${format}: ${err.stdout || err.message}`);
  });
}

try {
  await Promise.all([compile("esm", "module"), compile("cjs", "commonjs")]);
  writeFileSync(join(work, "dist", "cjs", "package.json"), '{ "type": "commonjs" }\n');
  const dist = join(root, "dist");
  if (existsSync(dist)) renameSync(dist, join(work, "before"));
  renameSync(join(work, "dist"), dist);
} catch (err) {
  console.error(err.message);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}
