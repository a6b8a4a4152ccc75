// Five questions from a worker thread.
import { parentPort } from "node:worker_threads";
import { Guard } from "guardbook";

const guard = new Guard({ budgetMs: 5000 });
for (let i = 0; i < 5; i++) await guard.decide({ kind: "input", content: "x" });
parentPort.postMessage(guard.client);
