// Compiles the package twice from the same sources: ES modules into dist/esm, CommonJS into dist/cjs.
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc");
rmSync(join(root, "dist"), { recursive: true, force: true });

// tsc takes a file's module format from the nearest package.json of its source, so
// the CommonJS pass runs with one that says so in the place of the package's own.
execFileSync(process.execPath, [tsc, "-p", "tsconfig.json", "--outDir", "dist/esm"], { cwd: root, stdio: "inherit" });
const format = join(root, "src", "package.json");
writeFileSync(format, '{ "type": "commonjs" }\n');
try {
  execFileSync(process.execPath, [tsc, "-p", "tsconfig.json", "--outDir", "dist/cjs"], { cwd: root, stdio: "inherit" });
} finally {
  rmSync(format);
}
mkdirSync(join(root, "dist", "cjs"), { recursive: true });
writeFileSync(join(root, "dist", "cjs", "package.json"), '{ "type": "commonjs" }\n');
