#!/usr/bin/env node
// Runs the guardbook binary that came with this package.
import { spawn } from "node:child_process";
import { findBinary } from "../dist/esm/local.js";

let binary;
try {
  binary = findBinary(process.env.GUARDBOOK_BINARY ?? "");
} catch (err) {
  console.error(`guardbook: ${err.message}`);
  process.exit(2);
}
const child = spawn(binary, process.argv.slice(2), { stdio: "inherit" });
// A terminal sends these to both; what another process sends to this one is passed on.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (err) => {
  console.error(`guardbook: ${binary} cannot be run: ${err.message}`);
  process.exit(2);
});
child.on("exit", (code, signal) => {
  if (!signal) process.exit(code ?? 1);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
