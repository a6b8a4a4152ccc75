// Asks three times while no server is there, says who it is, and waits to be killed.
import { Guard } from "guardbook";

const guard = new Guard({ log: () => undefined });
for (let i = 0; i < 3; i++) await guard.decide({ kind: "input", content: "x" });
console.log(guard.client);
setInterval(() => undefined, 1000);
