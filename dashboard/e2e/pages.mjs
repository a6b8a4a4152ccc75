// Opens every page at two widths and in both themes, keeps a picture of each, and
// fails on anything in the browser's console, on a breach of the content security
// policy, on a page that is wider than its window, and on hostile text that became
// markup. Runs against the fixture: npm run build && npm run pages.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Browser } from "./browser.mjs";

const { values: flags } = parseArgs({ options: { shots: { type: "string" }, chromium: { type: "string" } } });
if (flags.shots) mkdirSync(flags.shots, { recursive: true });

/** fixture starts the fixture server on a free port. */
async function fixture(...args) {
  const child = spawn(process.execPath, [fileURLToPath(new URL("fixture/server.mjs", import.meta.url)), "--open", "--port", "0", ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(child.stdout, "data");
  return { child, url: /http:\/\/[^/]+/.exec(String(line))[0] };
}

const full = await fixture();
const empty = await fixture("--empty");
const browser = await Browser.launch(flags.chromium);
let passed = 0;
let failed = 0;
const check = (what, ok, detail = "") => {
  if (ok) passed++;
  else failed++;
  if (!ok) console.log(`FAILED ${what} ${detail}`);
};

const get = async (path) => (await fetch(`${full.url}/api/v1/${path}`)).json();
const one = async (query) => (await get(`events?order=desc&limit=1&${query}`)).events[0];
const blocked = await one("action=block&tool=query_database");
const hostile = await one("session=s%2Fhostile%3F%23");
const [firstAlert] = (await get("alerts")).alerts;
await fetch(`${full.url}/api/v1/kill`, { method: "POST", headers: { "X-Guardbook-CSRF": "1" }, body: JSON.stringify({ scope: "demo-shop", reason: "sends customers' addresses out" }) });
const event = (id) => `/events/${id}`;
const pages = [
  ["timeline", full, "/", "a.row"],
  ["timeline-filtered", full, "/?agent=demo-clinic&action=block", "a.row"],
  ["timeline-hostile", full, "/?agent=demo-shop&session=s-hostile", "a.row"],
  ["timeline-empty", empty, "/", ".empty"],
  ["event", full, event(blocked.id), ".verdict.good"],
  ["event-hostile", full, event(hostile.id), ".verdict.good"],
  ["event-policy", full, event((await one("type=policy")).id), ".verdict.good"],
  ["event-missing", full, event("0198ffff-0000-7000-8000-000000000000"), ".failure"],
  ["session", full, `/sessions/${encodeURIComponent(blocked.session)}`, ".step"],
  ["session-hostile", full, `/sessions/${encodeURIComponent("s/hostile?#")}`, ".step"],
  ["agents", full, "/agents", "[data-testid=containment]"],
  ["agents-empty", empty, "/agents", ".empty"],
  ["alerts", full, "/alerts", "tbody tr"],
  ["alerts-empty", empty, "/alerts", ".empty"],
  ["alert", full, `/alerts/${firstAlert.alert}`, "tbody tr"],
  ["policies", full, "/policies", "details.policy"],
  ["evidence", full, "/evidence", "form.period"],
  ["book", full, "/book", ".good-word"],
  ["login", full, "/login", "form.login"],
  ["nowhere", full, "/agents/none/such", "h1"],
];
const acts = {
  agents: async (p) => {
    await p.getByRole("button", { name: "Kill demo-clinic" }).click();
    await p.getByLabel("Reason").fill("It answers with other patients' data");
  },
  evidence: async (p) => {
    await p.getByRole("button", { name: "Build package" }).click();
    await p.getByText("What is in it").waitFor();
  },
  policies: (p) => p.locator("details.policy summary").first().click(),
};

for (const scheme of ["light", "dark"]) {
  for (const width of [1280, 900]) {
    const page = await browser.page({ viewport: { width, height: 800 }, colorScheme: scheme });
    for (const [name, server, path, ready] of pages) {
      const what = `${name} ${scheme} ${width}`;
      page.complaints.length = 0;
      await page.goto(server.url + path);
      try {
        await page.locator(ready).first().waitFor({ timeout: 10_000 });
        await acts[name]?.(page);
        check(`${what} shows`, true);
      } catch (e) {
        check(`${what} shows`, false, String(e).slice(0, 200));
      }
      await page.waitForTimeout(250);
      const state = await page.evaluate(() => ({
        over: document.documentElement.scrollWidth - window.innerWidth,
        // The page has images and scripts of its own in the head only.
        alien: document.querySelectorAll("body script:not([src]), body img, body iframe, [onerror]").length,
        unnamed: [...document.querySelectorAll("button, a, input, select, textarea")].filter((e) => !(e.textContent || e.getAttribute("aria-label") || e.closest("label"))).length,
      }));
      check(`${what} fits its window`, state.over <= 0, `${state.over} px too wide`);
      check(`${what} has no markup of agents`, state.alien === 0);
      check(`${what} names its controls`, state.unnamed === 0);
      const expected = name === "event-missing" ? page.complaints.filter((c) => !c.includes("404")) : page.complaints;
      check(`${what} is quiet in the console`, expected.length === 0, expected.join(" | ").slice(0, 400));
      if (flags.shots) await page.screenshot({ path: join(flags.shots, `${name}-${scheme}-${width}.png`), fullPage: !name.startsWith("timeline") });
    }
    await page.context().close();
  }
}
await browser.close();
full.child.kill();
empty.child.kill();
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
