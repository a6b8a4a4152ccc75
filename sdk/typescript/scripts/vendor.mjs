// For a plain `npm pack` of a checkout: puts this platform's binary into the package
// itself, where src/local.ts finds it. What is published has packages of their own for
// the platforms instead; see pack.mjs.
//
//   node scripts/vendor.mjs [--remove | --to DIR]
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const repository = join(root, "..", "..");
const name = process.platform === "win32" ? "guardbook.exe" : "guardbook";
const built = process.env.GUARDBOOK_TEST_BINARY ?? join(repository, "bin", name);
const [flag, dir = root] = process.argv.slice(2);
const binary = join(dir, "vendor", name);

rmSync(dirname(binary), { recursive: true, force: true });
if (flag === "--remove") process.exit();
mkdirSync(dirname(binary), { recursive: true });
if (existsSync(built)) {
  copyFileSync(built, binary);
} else {
  execFileSync("go", ["build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/guardbook"], {
    cwd: repository,
    stdio: ["ignore", "inherit", "inherit"],
    env: { GOTOOLCHAIN: "go1.27.3", ...process.env, CGO_ENABLED: "0" },
  });
}
chmodSync(binary, 0o755);
