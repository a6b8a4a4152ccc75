import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Recorder } from "../dist/esm/recorder.js";
import { Spool } from "../dist/esm/spool.js";
import { folder } from "./server.js";

const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;

function file(s: Spool): string {
  const name = readdirSync(s.folder).find((f) => f.startsWith(s.client));
  return join(s.folder, name ?? "none");
}

describe("the spool", () => {
  test("has a line on disk when append returns, for its owner alone", () => {
    const s = new Spool(folder(), "a", id(1));
    expect(s.append("one")).toBe(true);
    expect(readFileSync(file(s), "utf8")).toBe("one\n");
    expect(statSync(file(s)).mode & 0o077).toBe(0);
    expect(statSync(s.folder).mode & 0o077).toBe(0);
  });

  test("is emptied as it is confirmed, and goes away when nothing is left", () => {
    const s = new Spool(folder(), "a", id(1));
    for (let i = 0; i < 300; i++) s.append(`line ${i}`);
    const first = s.batch();
    expect(first.lines).toHaveLength(256);
    s.append("late");
    s.confirm(first.bytes);
    const second = s.batch();
    expect(second.lines.at(-1)).toBe("late");
    s.confirm(second.bytes);
    expect(s.pending).toBe(false);
    expect(statSync(file(s)).size).toBe(0);
    s.append("again");
    expect(s.batch().lines).toEqual(["again"]);
    s.confirm(s.batch().bytes);
    s.close();
    expect(readdirSync(s.folder)).toEqual([]);
  });

  test("is bounded", () => {
    const s = new Spool(folder(), "a", id(1), 100);
    let n = 0;
    while (s.append("x".repeat(19))) n++;
    expect(n).toBe(5);
    expect(s.append("says so", true)).toBe(true);
  });

  test("survives that another process takes it for dead", () => {
    const s = new Spool(folder(), "a", id(1));
    s.append("one");
    renameSync(file(s), join(s.folder, "taken"));
    s.append("two");
    expect(readFileSync(file(s), "utf8")).toBe("two\n");
    expect(s.batch().lines).toEqual(["two"]);
  });

  test("takes over from the dead of the same agent, and from no one else", () => {
    const data = folder();
    const mine = new Spool(data, "a", id(1));
    mine.append("mine");
    const dead = spawnSync(process.execPath, ["-e", ""]).pid;
    const host = file(mine).split(".").at(-3);
    const leave = (owner: string, name: string, text: string) => {
      mkdirSync(owner, { recursive: true });
      writeFileSync(join(owner, name), text);
    };
    leave(mine.folder, `${id(2)}.${host}.${dead}-1.jsonl`, '{"a":1}\n{"a":2}\n{"half');
    leave(mine.folder, `${id(3)}.${host}.${process.ppid}-0.jsonl`, "of a running process\n");
    leave(mine.folder, `${id(4)}.ffffffff.${dead}-1.jsonl`, "of another host, just now\n");
    leave(mine.folder, "notes.txt", "of a person\n");
    leave(new Spool(data, "b", id(5)).folder, `${id(5)}.${host}.${dead}-1.jsonl`, "of another agent\n");
    const orphans = mine.adopt();
    expect(orphans.map((o) => o.client)).toEqual([id(2)]);
    expect([...(orphans[0]?.batches() ?? [])]).toEqual([['{"a":1}', '{"a":2}']]);
    expect(mine.adopt()).toEqual([]);
    orphans[0]?.remove();
    expect(readdirSync(mine.folder)).toHaveLength(4);
  });
});

describe("the recorder", () => {
  test("counts what the full spool could not keep, and tells the whole number", async () => {
    const said: string[] = [];
    const told: { event: string; count?: number }[] = [];
    let up = false;
    const r = new Recorder({
      data: folder(),
      owner: "a",
      limit: 2000,
      log: (l) => said.push(l),
      send: async (body) => {
        if (!up) throw new Error("away");
        if (body) told.push(...JSON.parse(body).events);
        return { status: 200, body: "" };
      },
    });
    for (let i = 1; i <= 1000; i++) r.note({ event: "unguarded", seq: i, reason: "away" });
    expect(said).toEqual([expect.stringContaining("full")]);
    up = true;
    expect(await r.flush()).toBe(true);
    const kept = told.filter((e) => e.event === "unguarded").length;
    const dropped = told.filter((e) => e.event === "dropped").reduce((n, e) => n + (e.count ?? 0), 0);
    expect(kept).toBeGreaterThan(0);
    expect(kept + dropped).toBe(1000);
    await r.close();
  });

  test("keeps what the server refuses, and says it once", async () => {
    const said: string[] = [];
    const r = new Recorder({
      data: folder(),
      owner: "a",
      log: (l) => said.push(l),
      send: async () => ({ status: 401, body: "who are you?\u001b[2J" }),
    });
    r.note({ event: "refused", seq: 1, reason: "away" });
    for (let i = 0; i < 3; i++) expect(await r.flush()).toBe(false);
    expect(said).toHaveLength(1);
    expect(said[0]).toContain("401: who are you? [2J");
    await r.close();
  });

  test("is not held up by an event that the server cannot read: it says which one that was", async () => {
    const said: string[] = [];
    const told: { event: string; seq: number; reason?: string }[] = [];
    const r = new Recorder({
      data: folder(),
      owner: "a",
      log: (l) => said.push(l),
      send: async (body) => {
        const events = body ? JSON.parse(body).events : [];
        if (events.some((e: { via?: string }) => e.via === "BAD"))
          return { status: 400, body: "via must be lower case" };
        told.push(...events);
        return { status: 200, body: "" };
      },
    });
    for (let i = 1; i <= 9; i++) r.note({ event: "unguarded", seq: i, ...(i === 5 && { via: "BAD" }) });
    expect(await r.flush()).toBe(true);
    expect(told.map((e) => e.seq)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(told[4]).toMatchObject({
      event: "dropped",
      reason: "the server could not read the event: via must be lower case",
    });
    expect(said).toHaveLength(1);
    await r.close();
  });

  test("tells what it was told while it was telling", async () => {
    const told: number[] = [];
    const r = new Recorder({
      data: folder(),
      owner: "a",
      log: () => undefined,
      send: async (body) => {
        if (told.length < 50) r.note({ event: "unguarded", seq: told.length + 2 });
        told.push(...(JSON.parse(body || '{"events":[]}') as { events: { seq: number }[] }).events.map((e) => e.seq));
        return { status: 200, body: "" };
      },
    });
    r.note({ event: "unguarded", seq: 1 });
    expect(await r.flush()).toBe(true);
    expect(told).toEqual(Array.from({ length: 51 }, (_, i) => i + 1));
    await r.close();
  });
});
