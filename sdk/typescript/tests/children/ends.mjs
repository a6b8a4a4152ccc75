// Asks once and ends, in one of the ways in which processes end.
import { Guard } from "guardbook";

const guard = new Guard({ log: () => undefined });
await guard.decide({ kind: "input", content: "x" });
switch (process.argv[2]) {
  case "exit":
    process.exit(3);
    break;
  case "throw":
    throw new Error("over");
  case "signal":
    process.kill(process.pid, "SIGKILL");
}
