// Tests the framework modules against the real frameworks, in the oldest and in the
// newest versions: each set of versions is a folder of tests/frameworks with a lock file
// of its own. node scripts/frameworks.mjs [--set newest|oldest] [CASE...]
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { play } from "../examples/play.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const home = join(root, "tests", "frameworks");
const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc");
const args = process.argv.slice(2);
const at = args.indexOf("--set");
const sets = at < 0 ? ["newest", "oldest"] : args.splice(at, 2).slice(1);
// A case without a set's name in it is for both.
const only = { newest: ["ai7", "mcp1", "mcp2"], oldest: ["ai5", "mcp1", "mcp2"] };

const binary = process.env.GUARDBOOK_TEST_BINARY ?? join(root, "..", "..", "bin", "guardbook");
if (!existsSync(binary)) {
  console.error(`${binary} is missing: run make build, or set GUARDBOOK_TEST_BINARY`);
  process.exit(2);
}
const run = (command, list, cwd, more = {}) => execFileSync(command, list, { cwd, stdio: "inherit", ...more });
if (!existsSync(join(root, "dist"))) run(process.execPath, [join(root, "scripts", "build.mjs")], root);

let failed = false;
for (const set of sets) {
  const folder = join(home, set);
  const modules = join(folder, "node_modules");
  if (!existsSync(modules))
    run("npm", ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"], folder);
  // The package as it is published, in the place where npm would put it.
  const installed = join(modules, "guardbook");
  rmSync(installed, { recursive: true, force: true });
  mkdirSync(installed);
  copyFileSync(join(root, "package.json"), join(installed, "package.json"));
  cpSync(join(root, "dist"), join(installed, "dist"), { recursive: true });

  const source = join(folder, "source");
  rmSync(source, { recursive: true, force: true });
  rmSync(join(folder, "out"), { recursive: true, force: true });
  mkdirSync(source);
  copyFileSync(join(root, "tests", "server.ts"), join(source, "server.ts"));
  for (const f of readdirSync(home)) if (/^[a-z]+\.ts$/.test(f)) copyFileSync(join(home, f), join(source, f));
  const cases = readdirSync(home)
    .filter((f) => f.endsWith(".case.ts"))
    .map((f) => f.slice(0, -".case.ts".length))
    .filter((c) => !/\d$/.test(c) || only[set].includes(c))
    .filter((c) => args.length === 0 || args.includes(c));
  for (const c of cases) copyFileSync(join(home, `${c}.case.ts`), join(source, `${c}.case.ts`));
  const config = {
    extends: "../tsconfig.base.json",
    compilerOptions: { rootDir: "source", outDir: "out" },
    include: ["source"],
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
  console.log(`\n${set}: ${cases.join(", ")}`);
  const compiled = spawnSync(process.execPath, [tsc, "-p", "tsconfig.json"], { cwd: folder, stdio: "inherit" });
  if (compiled.status !== 0) {
    failed = true;
    continue;
  }
  const tested = spawnSync(
    process.execPath,
    ["--test", "--test-reporter=spec", "--test-concurrency=2", ...cases.map((c) => join("out", `${c}.case.js`))],
    { cwd: folder, stdio: "inherit", env: { ...process.env, GUARDBOOK_TEST_BINARY: binary } },
  );
  failed ||= tested.status !== 0;
  if (set !== "newest" || args.length > 0) continue;
  process.env.GUARDBOOK_BINARY = binary;
  for (const name of ["langchain", "ai", "openai-agents", "claude", "mcp"]) {
    const file = join(folder, "out", `example-${name}.js`);
    copyFileSync(join(root, "examples", name, "index.mjs"), file);
    let said = "";
    const status = await play(file, folder, (text) => {
      said += text;
    });
    const went = ["the database runs: SELECT starts_at", "is not among appointments", "tool_call query_database"];
    const fine = status === 0 && went.every((w) => said.includes(w)) && !said.includes("runs: SELECT *");
    console.log(`${fine ? "✔" : "✖"} example ${name}`);
    if (!fine) console.log(said);
    failed ||= !fine;
  }
}
process.exit(failed ? 1 : 0);
