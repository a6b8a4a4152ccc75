import { execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Guard, GuardBlocked, GuardError, GuardUnavailable } from "guardbook";
import { OpenAI } from "openai-v6";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findBinary, platformPackage } from "../dist/esm/local.js";
import { binary, eventually, folder, injection, plan, StandIn } from "./server.js";

const stop: (() => void)[] = [];
afterAll(() => {
  for (const s of stop) s();
});

function data(): string {
  const dir = join(folder(), "data");
  stop.push(() => execFileSync(binary, ["local", "--stop", "--data", dir], { stdio: "ignore" }));
  return dir;
}

function clients(dir: string): { client: string; seen: number; missing?: unknown[] }[] {
  const out = execFileSync(binary, ["clients", "--data", dir, "--url", url(dir), "--json"], { encoding: "utf8" });
  return out
    .trim()
    .split("\n")
    .filter(Boolean)
    .map((l) => JSON.parse(l));
}

function url(dir: string): string {
  return (
    JSON.parse(
      execFileSync(binary, ["local", "--data", dir, "--agent", "billing-bot", "--json"], { encoding: "utf8" }),
    ) as { url: string }
  ).url;
}

describe("without a server's address", () => {
  let standIn: StandIn;
  beforeAll(async () => {
    standIn = await StandIn.start();
  });
  afterAll(() => standIn.stop());

  test("three lines start this user's server, which watches and stops nothing; its address is said once", async () => {
    const dir = data();
    const said: string[] = [];
    const guard = new Guard({ agent: "billing-bot", data: dir, binary, log: (l) => said.push(l) });
    expect(said).toEqual([]);
    const client = guard.wrap(new OpenAI({ apiKey: "k", baseURL: `${standIn.url}/openai/v1` }));
    const r = await client.chat.completions.create({
      model: plan({ text: "Hello." }),
      messages: [{ role: "user", content: injection }],
    });
    expect(r.choices[0]?.message.content).toBe("Hello.");
    const d = await guard.decide({ kind: "input", content: injection });
    expect(d).toMatchObject({ mode: "monitor", would: "block" });
    const second = new Guard({ agent: "billing-bot", data: dir, binary, log: (l) => said.push(l) });
    expect((await second.start()).url).toBe((await guard.start()).url);
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(/^guardbook: a local server runs at http:\/\/127\.0\.0\.1:\d+ .* Dashboard: http/);
    await guard.close();
    await second.close();
  });

  test("many processes at once use one server", async () => {
    const dir = data();
    const child = fileURLToPath(new URL("./children/ends.mjs", import.meta.url));
    const env = {
      ...process.env,
      GUARDBOOK_DATA: dir,
      GUARDBOOK_BINARY: binary,
      GUARDBOOK_AGENT: "billing-bot",
      GUARDBOOK_BUDGET: "10",
    };
    await Promise.all(
      Array.from(
        { length: 4 },
        () => new Promise((r) => spawn(process.execPath, [child, "return"], { env, stdio: "ignore" }).on("exit", r)),
      ),
    );
    expect(clients(dir).map((c) => c.seen)).toEqual([1, 1, 1, 1]);
  });

  test("a local server that was ended is started again, and hears what it missed", async () => {
    const dir = data();
    const guard = new Guard({ agent: "billing-bot", data: dir, binary, log: () => undefined });
    await guard.decide({ kind: "input", content: "x" });
    execFileSync(binary, ["local", "--stop", "--data", dir], { stdio: "ignore" });
    expect((await guard.decide({ kind: "input", content: "y" })).unguarded).toBe(true);
    let d = await guard.decide({ kind: "input", content: "z" });
    for (let i = 0; i < 200 && d.unguarded; i++) {
      await new Promise((r) => setTimeout(r, 50));
      d = await guard.decide({ kind: "input", content: "z" });
    }
    expect(d.unguarded).toBeUndefined();
    await eventually(() => !guard.pending);
    const mine = clients(dir).find((c) => c.client === guard.client);
    expect(mine?.missing ?? []).toEqual([]);
    await guard.close();
  });

  test("a server that cannot be started is an outage; a binary that is not there is a mistake", async () => {
    const dir = folder();
    const broken = join(dir, "broken");
    writeFileSync(broken, "#!/bin/sh\necho 'the data directory is on fire' >&2\nexit 2\n");
    chmodSync(broken, 0o755);
    const g = new Guard({ agent: "billing-bot", data: dir, binary: broken, log: () => undefined });
    expect(await g.decide({ kind: "input", content: "x" })).toMatchObject({ unguarded: true });
    const err = await g.toolCall({ name: "t" });
    expect(!err.allowed && err.error).toBeInstanceOf(GuardUnavailable);
    expect(!err.allowed && err.message).toContain("the data directory is on fire");
    const gone = new Guard({ agent: "billing-bot", data: dir, binary: "/nowhere/guardbook", log: () => undefined });
    const no = await gone.decide({ kind: "input", content: "x" }).catch((e: unknown) => e);
    expect(no).toBeInstanceOf(GuardError);
    expect(no).not.toBeInstanceOf(GuardUnavailable);
    expect(no).not.toBeInstanceOf(GuardBlocked);
    expect((no as Error).message).toContain("GUARDBOOK_BINARY");
    await g.close();
    await gone.close();
  });
});

test("the binary is the named one, or the one on the PATH, or an error that says what to do", () => {
  const dir = folder();
  mkdirSync(join(dir, "bin"));
  const path = join(dir, "bin", "guardbook");
  writeFileSync(path, "");
  chmodSync(path, 0o755);
  expect(findBinary(path, {})).toBe(path);
  expect(findBinary("", { PATH: `/nowhere:${join(dir, "bin")}` })).toBe(path);
  expect(() => findBinary("", { PATH: "/nowhere" })).toThrow(
    /@guardbook\/.* is not installed.*--omit=optional.*GUARDBOOK_URL/,
  );
  expect(platformPackage("linux", "x64")).toBe("@guardbook/linux-x64");
});
