import { defineConfig } from "vitest/config";

// The tests import "guardbook" as users do: what scripts/build.mjs made is what is tested.
export default defineConfig({
  test: {
    include: ["tests/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    server: { deps: { external: [/\/dist\//] } },
  },
});
