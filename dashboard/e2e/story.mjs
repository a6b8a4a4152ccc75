// Story (c) in a real browser, against a running server: a compromised agent sends
// data out; somebody opens the dashboard, looks at what it did and at the proof,
// kills that one agent, sees that it holds, and lifts it; the other agents go on.
//
//   node e2e/story.mjs --url http://127.0.0.1:8787 --once TOKEN --agent demo-researcher [--drive] [--shots DIR]
//
// TOKEN is that of the one-time login link. The agents' traffic comes from outside;
// with --drive the story makes its own: it creates the agent (or rotates its key)
// and a second one in the dashboard, and has both ask /v1/inspect.
// The last line is "N passed, N failed"; the exit status is 1 when a step failed.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Browser } from "./browser.mjs";

const { values: flags } = parseArgs({
  options: {
    url: { type: "string", default: "http://127.0.0.1:8787" },
    once: { type: "string" },
    agent: { type: "string", default: "demo-researcher" },
    drive: { type: "boolean", default: false },
    shots: { type: "string" },
    chromium: { type: "string" },
    wait: { type: "string", default: "60" }, // seconds that one step may take
  },
});
if (!flags.once) {
  console.error("story: --once TOKEN is missing: it is in the login link that guardbook serve prints, and guardbook login-link makes another");
  process.exit(2);
}
if (flags.shots) mkdirSync(flags.shots, { recursive: true });

const limit = Number(flags.wait) * 1000;
const account = { name: `story-${Date.now().toString(36)}`, password: `correct horse ${crypto.randomUUID()}` };
const bystander = `${flags.agent}-bystander`;
let passed = 0;
let failed = 0;
let shot = 0;

const browser = await Browser.launch(flags.chromium);
const page = await browser.page({ viewport: { width: 1280, height: 800 } });
page.setDefaultTimeout(limit);

/** step runs one step; the story ends at the first that fails, since the next ones build on it. */
async function step(what, act) {
  const began = Date.now();
  try {
    await act();
    passed++;
    console.log(`ok      ${what} (${Date.now() - began} ms)`);
  } catch (e) {
    failed++;
    console.log(`FAILED  ${what}: ${e instanceof Error ? e.message : e}`);
    throw e;
  } finally {
    if (flags.shots) await page.screenshot({ path: join(flags.shots, `${String(++shot).padStart(2, "0")}-${what.replaceAll(/[^a-z0-9]+/gi, "-")}.png`) }).catch(() => {});
  }
}

function expect(ok, message) {
  if (!ok) throw new Error(message);
}

/** until waits for something to become true. */
async function until(what, f) {
  const end = Date.now() + limit;
  while (Date.now() < end) {
    const v = await f();
    if (v) return v;
    await page.waitForTimeout(100);
  }
  throw new Error(`waited ${flags.wait} s for ${what}`);
}

const go = (name) => page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name, exact: true }).click();
const rows = (agent) => page.locator(`a.row[data-type=decision]${agent ? `[data-agent=${JSON.stringify(agent)}]` : ""}`);
const link = (row) => row.getAttribute("href");

/** others is the agent of some newly arrived decision that is not the killed one's. */
const others = () => page.locator("a.row[data-type=decision]").evaluateAll((list, own) => list.filter((e) => e.dataset.agent !== own).map((e) => e.getAttribute("href")), flags.agent);

/** drive asks the guard for decisions in an agent's name until stopped. */
function drive(key, session) {
  const stop = new AbortController();
  const run = async () => {
    for (let n = 1; !stop.signal.aborted; n++) {
      await fetch(`${flags.url}/v1/inspect`, {
        method: "POST",
        headers: { "X-Guardbook-Key": key, "Content-Type": "application/json" },
        body: JSON.stringify({ kind: "input", session, content: `Summarise page ${n} of the annual report.` }),
      }).catch(() => {});
      await new Promise((done) => setTimeout(done, 250));
    }
  };
  const ended = run();
  return async () => {
    stop.abort();
    await ended;
  };
}

/** keyOf makes an agent, or rotates its key, by hand as a person would, and reads the key that is shown once. */
async function keyOf(agent) {
  await page.getByRole("heading", { name: "Agents", level: 1 }).waitFor();
  await until("the list of agents", async () => (await page.locator("table.agents, .empty").count()) > 0);
  const row = page.locator(`tr[data-agent=${JSON.stringify(agent)}]`);
  if ((await row.count()) > 0) {
    await row.getByRole("button", { name: "Rotate" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Rotate" }).click();
  } else {
    await page.getByRole("button", { name: "Create agent" }).first().click();
    const d = page.getByRole("dialog");
    await d.getByLabel("Name").fill(agent);
    await d.getByLabel("Owner").fill("security@example.com");
    await d.getByLabel("Purpose").fill("Plays a part in the story");
    await d.getByRole("button", { name: "Create" }).click();
  }
  const issued = page.locator(".issued").filter({ hasText: agent });
  const key = (await issued.locator(".command pre").first().textContent())?.trim() ?? "";
  expect(key.startsWith("gbk_"), "the new key is not shown");
  await issued.getByRole("button", { name: "I have stored it" }).click();
  return key;
}

const stops = [];
try {
  await step("the one-time link leads to the form for the first account", async () => {
    await page.goto(`${flags.url}/login?once=${encodeURIComponent(flags.once)}`);
    await page.getByRole("heading", { name: "Create your admin account" }).waitFor();
    expect(!page.url().includes(flags.once), "the token is still in the address bar");
  });

  await step("the account is created and opens the timeline", async () => {
    await page.getByLabel("Name").fill(account.name);
    await page.getByLabel("Password", { exact: true }).fill(account.password);
    await page.getByLabel("Password again").fill(account.password);
    await page.getByRole("button", { name: "Create account" }).click();
    await page.locator(".timeline").waitFor();
    await page.getByTestId("connection").filter({ hasText: "live" }).waitFor();
  });

  if (flags.drive) {
    await step("two agents are created and begin to work", async () => {
      await go("Agents");
      const key = await keyOf(flags.agent);
      const second = await keyOf(bystander);
      stops.push(drive(key, "story"), drive(second, "story-bystander"));
      await go("Timeline");
    });
  }

  await step("decisions of the agent arrive while one watches", async () => {
    await rows(flags.agent).first().waitFor();
    const before = await link(page.locator("a.row[data-type=decision]").first());
    await until("a newer decision", async () => (await link(page.locator("a.row[data-type=decision]").first())) !== before);
  });

  await step("a decision opens with its facts, and its proof is recomputed in the browser", async () => {
    await page.goto(`${flags.url}/?agent=${encodeURIComponent(flags.agent)}&type=decision`);
    // The list moves under the pointer while entries arrive: hold it still first.
    await rows(flags.agent).first().waitFor();
    await page.getByRole("button", { name: "Pause" }).click();
    await rows(flags.agent).first().click();
    await page.getByRole("heading", { name: "Facts" }).waitFor();
    const verdict = page.getByTestId("proof-verdict");
    await verdict.waitFor();
    const said = (await verdict.textContent()) ?? "";
    expect(said.includes("Recomputed in this browser: root matches"), `the proof says: ${said}`);
    await page.getByText("good, by this server's key").waitFor();
  });

  const containment = page.locator(`[data-testid=containment][data-scope=${JSON.stringify(`agent:${flags.agent}`)}]`);
  const refused = async () => Number(((await containment.getByTestId("refused").textContent()) ?? "").replaceAll(/\D/g, ""));

  await step("the agent is killed, with a reason", async () => {
    await go("Agents");
    await page.getByRole("button", { name: `Kill ${flags.agent}`, exact: true }).click();
    const d = page.getByRole("dialog");
    await d.getByRole("button", { name: "Kill" }).click();
    expect(await d.isVisible(), "a kill without a reason was accepted");
    await d.getByLabel("Reason").fill("Sends research data to an unknown address");
    await d.getByRole("button", { name: "Kill" }).click();
    await containment.waitFor();
    expect(((await containment.textContent()) ?? "").includes("Sends research data to an unknown address"), "the reason is not shown");
    expect(((await containment.textContent()) ?? "").includes(account.name), "who killed it is not shown");
  });

  await step("its attempts are refused, and counted while one watches", async () => {
    const first = await until("a refused attempt", refused);
    await until("one more refused attempt", async () => (await refused()) > first);
  });

  await step("the other agents go on", async () => {
    await page.goto(`${flags.url}/?type=decision`);
    await rows().first().waitFor();
    const before = new Set(await others());
    await until("a new decision of another agent", async () => (await others()).some((h) => !before.has(h)));
    await rows(flags.agent).filter({ hasText: "block" }).first().waitFor();
  });

  await step("the kill is in the book, with its proof", async () => {
    await page.goto(`${flags.url}/?type=containment`);
    await page.getByTestId("connection").filter({ hasText: "live" }).waitFor();
    await page.locator("a.row[data-type=containment]").first().click();
    await page.getByTestId("proof-verdict").filter({ hasText: "root matches" }).waitFor();
    await page.getByText("Sends research data to an unknown address").first().waitFor();
  });

  await step("the containment is lifted, with a reason", async () => {
    await go("Agents");
    await containment.getByRole("button", { name: "Lift" }).click();
    const d = page.getByRole("dialog");
    await d.getByLabel("Reason").fill("Its key was rotated and its tools were checked");
    await d.getByRole("button", { name: "Lift" }).click();
    await containment.waitFor({ state: "detached" });
    await page.getByRole("button", { name: `Kill ${flags.agent}`, exact: true }).waitFor();
  });

  await step("the agent works again", async () => {
    await page.goto(`${flags.url}/?agent=${encodeURIComponent(flags.agent)}&type=decision`);
    await rows(flags.agent).first().waitFor();
    await until("a decision that is no refusal", async () => !((await rows(flags.agent).first().textContent()) ?? "").includes("containment/"));
  });

  await step("nothing complained: no script error, no breach of the content security policy", () => {
    const real = page.complaints.filter((c) => !c.includes("401")); // asked before anybody was logged in
    expect(real.length === 0, real.join(" | ").slice(0, 500));
  });
} catch {
  // Told above, by the step.
} finally {
  await Promise.all(stops.map((stop) => stop()));
  await browser.close();
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
