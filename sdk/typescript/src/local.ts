import { execFile } from "node:child_process";
import { accessSync, constants, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import { GuardError, GuardUnavailable } from "./errors.js";
import { here } from "./here.cjs";

/** What `guardbook local` prints. */
export interface LocalServer {
  url: string;
  key: string;
  agent: string;
  data: string;
  pid: number;
  started: boolean;
  dashboard?: string;
}

const executable = process.platform === "win32" ? "guardbook.exe" : "guardbook";

/** The name of the package that carries the binary for a platform. */
export function platformPackage(platform: string = process.platform, arch: string = process.arch): string {
  return `@guardbook/${platform}-${arch}`;
}

/** Finds the binary: the one that was named, the package's own, the one on the PATH. */
export function findBinary(named: string, environment: NodeJS.ProcessEnv = process.env): string {
  const runnable = (path: string): boolean => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  };
  if (named) {
    if (runnable(named)) return named;
    throw new GuardError(`GUARDBOOK_BINARY is ${JSON.stringify(named)}, which is not a program that can be run.`);
  }
  const own = platformPackage();
  try {
    const path = createRequire(join(here, "index.js")).resolve(`${own}/bin/${executable}`);
    if (runnable(path)) return path;
  } catch {
    // Installed without optional dependencies, or no package for this platform.
  }
  const packed = join(here, "..", "..", "vendor", executable); // a package made by a plain npm pack
  if (runnable(packed)) return packed;
  for (const folder of (environment.PATH ?? "").split(delimiter)) {
    const path = join(folder, executable);
    // npm puts this package's own launcher on the PATH; it would only ask again.
    if (folder && runnable(path) && !realpathSync(path).endsWith(".js")) return path;
  }
  throw new GuardError(
    `There is no guardbook binary: the package ${own} is not installed. Install guardbook without --omit=optional, ` +
      "name a binary with GUARDBOOK_BINARY, or name a server with GUARDBOOK_URL and GUARDBOOK_KEY.",
  );
}

/** Makes sure that this user's server runs and knows the agent. */
export function startLocal(binary: string, data: string, agent: string): Promise<LocalServer> {
  return new Promise((resolve, reject) => {
    execFile(
      binary,
      ["local", "--data", data, "--agent", agent, "--json"],
      { timeout: 30_000, windowsHide: true, maxBuffer: 1 << 20 },
      (err, stdout, stderr) => {
        const said = stderr.trim().split("\n").at(-1) ?? "";
        if (err) {
          return reject(
            new GuardUnavailable(`The local server could not be started: ${said || err.message}`, { cause: err }),
          );
        }
        try {
          resolve(JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as LocalServer);
        } catch (cause) {
          reject(new GuardUnavailable("The local server could not be started: its answer is not JSON.", { cause }));
        }
      },
    );
  });
}
