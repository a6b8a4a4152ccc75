import { join } from "node:path";
import { GuardError } from "guardbook";
import { expect, test } from "vitest";
import { dataFolder, load, nameable } from "../dist/esm/settings.js";

const env = {
  GUARDBOOK_URL: "http://127.0.0.1:1",
  GUARDBOOK_KEY: "gbk_e",
  GUARDBOOK_AGENT: "from-env",
  GUARDBOOK_BUDGET: "0.5",
  GUARDBOOK_BLOCK: "respond",
};

test("arguments go before the environment, and that before the defaults", () => {
  expect(load({}, env)).toMatchObject({
    agent: "from-env",
    url: "http://127.0.0.1:1",
    key: "gbk_e",
    budgetMs: 500,
    block: "respond",
    onUnavailable: "allow",
    onUnavailableTools: "block",
  });
  expect(
    load(
      { agent: "a", url: "https://host/guard/", key: "gbk_a", budgetMs: 20, block: "raise", onUnavailable: "block" },
      env,
    ),
  ).toMatchObject({
    agent: "a",
    url: "https://host/guard",
    key: "gbk_a",
    budgetMs: 20,
    block: "raise",
    onUnavailable: "block",
  });
  expect(load({ agent: "a" }, { GUARDBOOK_KEY: "gbk_stale" })).toMatchObject({ url: "", key: "" });
});

test("a wrong value is an error that names what is allowed, and where the value came from", () => {
  const cases: [object, Record<string, string>, string][] = [
    [{ onUnavailable: "open" }, {}, 'onUnavailable must be "allow" or "block", not "open"'],
    [
      {},
      { GUARDBOOK_ON_UNAVAILABLE_TOOLS: "maybe" },
      'GUARDBOOK_ON_UNAVAILABLE_TOOLS must be "block" or "allow", not "maybe"',
    ],
    [{ block: "log" }, {}, 'block must be "raise" or "respond"'],
    [{ budgetMs: 0 }, {}, "budgetMs must be milliseconds between 1 and 60000, not 0"],
    [{ budgetMs: Number.NaN }, {}, "budgetMs must be"],
    [{}, { GUARDBOOK_BUDGET: "soon" }, 'GUARDBOOK_BUDGET must be seconds between 0.001 and 60, not "soon"'],
    [{ url: "localhost:8787" }, {}, "url must look like http://127.0.0.1:8787"],
    [{ url: "http://u:p@h" }, {}, "without user, query and fragment"],
    [{ key: "gbo_x", url: "http://h" }, {}, "operator's token"],
    [{ key: "a key", url: "http://h" }, {}, "no agent's key"],
    [{ session: "a\nb" }, {}, "session must be printable"],
    [{ agent: 7 }, {}, "agent must be a string"],
    [{ onUnavailble: "block" }, {}, 'no option "onUnavailble". There are: agent, url'],
  ];
  for (const [options, environment, message] of cases) {
    expect(() => load({ agent: "a", ...options } as never, environment)).toThrow(message);
  }
  expect(() => load({}, {})).toThrow(GuardError);
  expect(() => load({}, {})).toThrow("Say the agent's name");
  expect(() => load({ url: "http://h" }, {})).toThrow("there is no key for it");
  expect(() => load("billing-bot" as never, {})).toThrow("Guard takes an object");
});

test("names are printable text of up to 256 bytes, as the server wants them", () => {
  for (const ok of ["a", "s-17", "ä b", "日本", "x".repeat(256), "👍"]) expect(nameable(ok)).toBe(true);
  for (const bad of ["", "a\n", "\u0000", "x".repeat(257), "ä".repeat(129), "\ud800", "\u200b", "\u00a0", "\u2028"])
    expect(nameable(bad)).toBe(false);
});

test("the data folder is the server's own", () => {
  expect(dataFolder({ GUARDBOOK_DATA: "/d" })).toBe("/d");
  expect(dataFolder({ XDG_DATA_HOME: "/x" }, "linux")).toBe(join("/x", "guardbook"));
  expect(dataFolder({}, "linux")).toContain(join(".local", "share", "guardbook"));
  expect(dataFolder({}, "darwin")).toContain(join("Library", "Application Support", "guardbook"));
  expect(dataFolder({ LOCALAPPDATA: "C:/l" }, "win32")).toBe(join("C:/l", "guardbook"));
});
