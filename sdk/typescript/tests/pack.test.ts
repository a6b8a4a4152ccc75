// What is published, installed into a project that has nothing else.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { binary, folder, plan, StandIn } from "./server.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const project = join(folder(), "project");
const data = join(project, "data");
const platform = `${process.platform}-${process.arch}`;
let standIn: StandIn;
let env: NodeJS.ProcessEnv;

function run(...command: [string, ...string[]]): string {
  const [name, ...args] = command;
  return execFileSync(name, args, { cwd: project, env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

beforeAll(async () => {
  standIn = await StandIn.start();
  const packs = folder();
  execFileSync(
    process.execPath,
    [
      join(root, "scripts/pack.mjs"),
      "--no-build",
      "--out",
      packs,
      "--platforms",
      platform,
      "--binary",
      `${platform}=${binary}`,
    ],
    {
      stdio: ["ignore", "ignore", "inherit"],
    },
  );
  mkdirSync(project);
  writeFileSync(join(project, "package.json"), '{ "name": "project", "private": true, "type": "module" }');
  // No server, no binary and no guardbook on the PATH: what is used is what was installed.
  env = {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    GUARDBOOK_DATA: data,
    OPENAI_BASE_URL: `${standIn.url}/openai/v1`,
    OPENAI_API_KEY: "k",
    MODEL: plan({ text: "Hello." }),
  };
  const tarballs = readdirSync(packs)
    .filter((f) => f.endsWith(".tgz"))
    .map((f) => join(packs, f));
  expect(tarballs).toHaveLength(2);
  run("npm", "install", "--offline", "--no-audit", "--no-fund", ...tarballs);
  for (const [name, from] of [
    ["openai", "openai-v6"],
    ["typescript", "typescript"],
    ["@types", "@types"],
  ] as const) {
    symlinkSync(join(root, "node_modules", from), join(project, "node_modules", name));
  }
}, 120_000);

afterAll(() => {
  run("npx", "guardbook", "local", "--stop");
  standIn.stop();
});

const use = `
const guard = new Guard({ agent: "billing-bot" });
const client = guard.wrap(new OpenAI());
const r = await client.chat.completions.create({ model: process.env.MODEL ?? "", messages: [{ role: "user", content: "Hi." }] });
console.log(r.choices[0]?.message.content, r.choices.length);
`;

describe("the packed package", () => {
  test("runs the three lines as an ES module", () => {
    writeFileSync(join(project, "esm.mjs"), `import OpenAI from "openai";\nimport { Guard } from "guardbook";\n${use}`);
    expect(run("node", "esm.mjs")).toBe("Hello. 1\n");
  });

  test("runs them as CommonJS", () => {
    writeFileSync(
      join(project, "cjs.cjs"),
      `const OpenAI = require("openai");\nconst { Guard } = require("guardbook");\n(async () => {${use}})();`,
    );
    expect(run("node", "cjs.cjs")).toBe("Hello. 1\n");
  });

  test("compiles in strict TypeScript, in both module formats, and runs", () => {
    const typed = `${use}
const d: Decision = await guard.decide({ kind: "input", content: "x" });
if (denies(d)) throw new GuardBlocked(d);
try { await guard.text("output", [{ type: "text", text: "x" }]); } catch (e) { if (e instanceof GuardBlocked) console.log(e.rule, e.severity); }
const v = await guard.toolCall({ name: "t", arguments: { a: 1 } });
if (v.allowed) console.log(Object.keys(v.value)); else console.log(v.message, v.error.retryable);
const n: number = guard.session("s-1", () => 7);
console.log(n, d.decision);
`;
    const imports =
      'import OpenAI from "openai";\nimport { type Decision, denies, Guard, GuardBlocked } from "guardbook";\n';
    writeFileSync(join(project, "typed.mts"), imports + typed);
    writeFileSync(
      join(project, "typed.cts"),
      `${imports}async function main(): Promise<void> {${typed}}\nvoid main();\n`,
    );
    const options = [
      "--strict",
      "--noUncheckedIndexedAccess",
      "--target",
      "es2022",
      "--types",
      "node",
      "--skipLibCheck",
    ];
    run("node", "node_modules/typescript/bin/tsc", ...options, "--module", "nodenext", "typed.mts", "typed.cts");
    expect(run("node", "typed.mjs")).toContain("7 allow");
    expect(run("node", "typed.cjs")).toContain("7 allow");
    writeFileSync(join(project, "bundled.ts"), imports + typed);
    run(
      "node",
      "node_modules/typescript/bin/tsc",
      ...options,
      "--noEmit",
      "--module",
      "esnext",
      "--moduleResolution",
      "bundler",
      "bundled.ts",
    );
  });

  test("its own types need no leave to be wrong", () => {
    writeFileSync(join(project, "alone.mts"), 'export * from "guardbook";\n');
    run(
      "node",
      "node_modules/typescript/bin/tsc",
      "--strict",
      "--target",
      "es2022",
      "--types",
      "node",
      "--noEmit",
      "--module",
      "nodenext",
      "alone.mts",
    );
  });

  test("is one in both formats: an error of one is an error of the other", () => {
    writeFileSync(
      join(project, "both.mjs"),
      `import { createRequire } from "node:module";
import { Guard, GuardBlocked } from "guardbook";
const other = createRequire(import.meta.url)("guardbook");
const d = { decision: "block", entry: "", rule: "r", severity: "high", message: "m" };
const guard = new Guard({ agent: "billing-bot" });
console.log(other.Guard !== Guard, new GuardBlocked(d) instanceof other.GuardBlocked, new other.GuardBlocked(d) instanceof GuardBlocked,
  guard.session("s-1", () => new other.Guard({ agent: "billing-bot" }).identity().session));`,
    );
    expect(run("node", "both.mjs")).toBe("true true true s-1\n");
  });

  test("brings the command", () => {
    expect(run("npx", "guardbook", "version")).toMatch(/^guardbook /);
    const clients = run(
      "npx",
      "guardbook",
      "clients",
      "--data",
      data,
      "--url",
      (JSON.parse(run("npx", "guardbook", "local", "--agent", "billing-bot", "--json")) as { url: string }).url,
      "--json",
    );
    expect(clients.trim().split("\n").length).toBeGreaterThanOrEqual(4);
    expect(() => run("npx", "guardbook", "nothing")).toThrow();
  });

  test("from a plain npm pack of the checkout brings this platform's binary in itself", () => {
    const packs = folder();
    const own = { ...env, GUARDBOOK_TEST_BINARY: binary };
    // A copy, and without its scripts: other tests read dist, and look for a binary.
    const checkout = folder();
    for (const name of ["package.json", "bin", "dist", "README.md"])
      cpSync(join(root, name), join(checkout, name), { recursive: true });
    execFileSync(process.execPath, [join(root, "scripts/vendor.mjs"), "--to", checkout], { env: own });
    execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", packs], {
      cwd: checkout,
      env: own,
      stdio: "ignore",
    });
    const [tarball = ""] = readdirSync(packs);
    mkdirSync(join(packs, "p"));
    writeFileSync(join(packs, "p", "package.json"), "{}");
    execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund", join(packs, tarball)], {
      cwd: join(packs, "p"),
      env,
      stdio: "ignore",
    });
    expect(execFileSync("npx", ["guardbook", "version"], { cwd: join(packs, "p"), env, encoding: "utf8" })).toMatch(
      /^guardbook /,
    );
  });

  test("has no dependency, and holds what it should", () => {
    const p = JSON.parse(readFileSync(join(project, "node_modules/guardbook/package.json"), "utf8"));
    expect(p.dependencies).toBeUndefined();
    expect(p.private).toBeUndefined();
    expect(p.scripts).toBeUndefined();
    expect(Object.keys(p.optionalDependencies)).toContain(`@guardbook/${platform}`);
    expect(readdirSync(join(project, "node_modules/guardbook")).sort()).toEqual([
      "LICENSE",
      "README.md",
      "bin",
      "dist",
      "package.json",
    ]);
  });
});
