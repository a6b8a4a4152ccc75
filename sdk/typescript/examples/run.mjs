// node examples/run.mjs NAME: installs what an example needs, and plays it.
import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { play } from "./play.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "..");
const names = readdirSync(here).filter((n) => existsSync(join(here, n, "index.mjs")));
const [name] = process.argv.slice(2);
if (!names.includes(name)) {
  console.error(`Say which example: ${names.join(", ")}`);
  process.exit(2);
}
const folder = join(here, name);
const run = (command, args, cwd) => execFileSync(command, args, { cwd, stdio: "inherit" });
const quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
if (!existsSync(join(root, "dist"))) {
  if (!existsSync(join(root, "node_modules"))) run("npm", ["ci", ...quiet], root);
  run(process.execPath, [join(root, "scripts", "build.mjs")], root);
}
if (!existsSync(join(folder, "node_modules"))) run("npm", ["install", ...quiet], folder);
// The package of this checkout, where npm would put the published one.
const installed = join(folder, "node_modules", "guardbook");
rmSync(installed, { recursive: true, force: true });
mkdirSync(installed, { recursive: true });
copyFileSync(join(root, "package.json"), join(installed, "package.json"));
cpSync(join(root, "dist"), join(installed, "dist"), { recursive: true });
process.exit(await play(join(folder, "index.mjs"), folder));
