// Chromium for the browser tests: the system's own, no download.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export class Browser {
  static async launch(executable = process.env.CHROMIUM) {
    const executablePath = executable ?? places.find((p) => existsSync(p));
    if (!executablePath) throw new Error(`no Chromium: install Debian's chromium, or name one with --chromium or CHROMIUM (looked at ${places.join(", ")})`);
    const b = new Browser();
    b.browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
    return b;
  }

  /** page opens a page in a fresh profile; whatever the console complains of is in page.complaints. */
  async page(options) {
    const context = await this.browser.newContext(options);
    const page = await context.newPage();
    page.complaints = [];
    page.on("console", (m) => ["error", "warning"].includes(m.type()) && page.complaints.push(m.text()));
    page.on("pageerror", (e) => page.complaints.push(String(e)));
    return page;
  }

  close() {
    return this.browser.close();
  }
}
