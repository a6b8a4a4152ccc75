import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "dist",
    emptyOutDir: true,
    // Nothing may become a data: URL or an inline script: the page's CSP refuses both.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
  server: {
    // `npm run dev` beside a running guardbook, or beside `npm run fixture`.
    proxy: { "/api": process.env.GUARDBOOK_URL ?? "http://127.0.0.1:8787" },
  },
});
