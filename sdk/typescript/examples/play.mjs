// Plays an example: a server with the policy of the demo's patient assistant, a stand-in
// for the model provider, the example's own code in a process of its own, and what the
// book then says. Nothing of it stays behind.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const own = fileURLToPath(new URL("../../../bin/guardbook", import.meta.url));
const binary =
  process.env.GUARDBOOK_BINARY ?? process.env.GUARDBOOK_TEST_BINARY ?? (existsSync(own) ? own : "guardbook");
const agent = "demo-patient-assistant"; // its policy is among the starter policies

/** Plays a file and gives back its exit status; hear, if given, gets what it prints. */
export async function play(file, cwd, hear) {
  const data = mkdtempSync(join(tmpdir(), "guardbook-example-"));
  const [provider, server] = [await port(), await port()];
  const upstream = `http://127.0.0.1:${provider}`;
  const url = `http://127.0.0.1:${server}`;
  const quiet = { stdio: "ignore" };
  const children = [
    spawn(binary, ["demo", "--serve-stand-in", `127.0.0.1:${provider}`], quiet),
    spawn(
      binary,
      [
        ...["serve", "--data", join(data, "book"), "--listen", `127.0.0.1:${server}`, "--client-upstreams", "any"],
        ...["--openai-upstream", `${upstream}/openai`, "--anthropic-upstream", `${upstream}/anthropic`],
      ],
      quiet,
    ),
  ];
  for (const child of children) child.on("error", (e) => console.error(`${binary} does not start: ${e.message}`));
  try {
    await answers(`${upstream}/openai/v1/models`);
    await answers(`${url}/readyz`);
    const guardbook = (...args) =>
      execFileSync(binary, [...args, "--data", join(data, "book"), "--url", url], { encoding: "utf8" });
    const { key } = JSON.parse(guardbook("agents", "create", agent, "--json"));
    const child = spawn(process.execPath, [file], {
      cwd,
      stdio: ["ignore", hear ? "pipe" : "inherit", "inherit"],
      env: {
        ...process.env,
        GUARDBOOK_URL: url,
        GUARDBOOK_KEY: key,
        GUARDBOOK_DATA: join(data, "spool"),
        EXAMPLE_MODEL: "guardbook-stand-in/patient-assistant",
        OPENAI_BASE_URL: `${upstream}/openai/v1`,
        OPENAI_API_KEY: "stand-in",
        ANTHROPIC_BASE_URL: `${upstream}/anthropic`,
        ANTHROPIC_API_KEY: "stand-in",
      },
    });
    child.stdout?.setEncoding("utf8").on("data", hear);
    const status = await finished(child);
    const book = guardbook("events", "--agent", agent).trimEnd();
    if (hear) hear(book);
    else console.log(`\nIn the book:\n${book}`);
    return status;
  } finally {
    for (const child of children) child.kill();
    await Promise.all(children.map(finished));
    rmSync(data, { recursive: true, force: true });
  }
}

function finished(child) {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  return new Promise((resolve) => child.once("exit", (code) => resolve(code ?? 1)).once("error", () => resolve(1)));
}

function port() {
  return new Promise((resolve, reject) => {
    const s = createServer().once("error", reject);
    s.listen(0, "127.0.0.1", () => {
      const { port } = s.address();
      s.close(() => resolve(port));
    });
  });
}

async function answers(url) {
  for (let i = 0; i < 1200; i++) {
    try {
      if ((await fetch(url)).ok) return;
    } catch {
      // Not yet.
    }
    await new Promise((r) => setTimeout(r, 25));
  }
  throw new Error(`${url} does not answer. Is ${binary} there? Set GUARDBOOK_BINARY.`);
}
