// Makes what is published: the package `guardbook`, and for each platform a package
// that carries the binary. npm installs the one that fits (its os and cpu say so).
//
//   node scripts/pack.mjs [--out DIR] [--platforms linux-x64,...] [--binary PLATFORM=PATH] [--no-build]
//
// Without --binary, the binary is compiled from this repository; Go fetches the
// toolchain that go.mod needs. With --no-build, dist is taken as it is.
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const repository = join(root, "..", "..");
const targets = {
  "linux-x64": ["linux", "amd64"],
  "linux-arm64": ["linux", "arm64"],
  "darwin-x64": ["darwin", "amd64"],
  "darwin-arm64": ["darwin", "arm64"],
  "win32-x64": ["windows", "amd64"],
  "win32-arm64": ["windows", "arm64"],
};

const { values } = parseArgs({
  options: {
    out: { type: "string" },
    platforms: { type: "string" },
    binary: { type: "string", multiple: true },
    "no-build": { type: "boolean" },
  },
});
const out = resolve(values.out ?? join(root, "packages"));
const platforms = values.platforms?.split(",") ?? Object.keys(targets);
const given = new Map((values.binary ?? []).map((b) => b.split(/=(.*)/s)));
for (const p of [...platforms, ...given.keys()]) {
  if (!(p in targets)) throw new Error(`there is no platform ${p}; there are: ${Object.keys(targets).join(", ")}`);
}

const own = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const write = (dir, description) =>
  writeFileSync(join(dir, "package.json"), `${JSON.stringify(description, null, 2)}\n`);
const npm = process.platform === "win32" ? "npm.cmd" : "npm";
const pack = (dir) =>
  execFileSync(npm, ["pack", "--silent", "--pack-destination", out, dir], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });

mkdirSync(out, { recursive: true });
for (const platform of platforms) {
  const [os, arch] = targets[platform];
  const dir = join(out, "stage", platform);
  const binary = join(dir, "bin", os === "windows" ? "guardbook.exe" : "guardbook");
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dirname(binary), { recursive: true });
  if (given.has(platform)) {
    copyFileSync(given.get(platform), binary);
  } else {
    execFileSync(
      "go",
      ["build", "-trimpath", "-ldflags", `-s -w -X main.version=${own.version}`, "-o", binary, "./cmd/guardbook"],
      {
        cwd: repository,
        stdio: "inherit",
        env: { GOTOOLCHAIN: "go1.27.3", ...process.env, GOOS: os, GOARCH: arch, CGO_ENABLED: "0" },
      },
    );
  }
  chmodSync(binary, 0o755);
  const [npmOS, cpu] = platform.split("-");
  write(dir, {
    name: `@guardbook/${platform}`,
    version: own.version,
    description: `The guardbook binary for ${platform}. Install the package guardbook, which brings it along.`,
    license: own.license,
    os: [npmOS],
    cpu: [cpu],
    files: ["bin"],
    preferUnplugged: true,
  });
  copyFileSync(join(repository, "LICENSE"), join(dir, "LICENSE"));
  process.stdout.write(pack(dir));
}

if (!values["no-build"]) execFileSync(process.execPath, [join(root, "scripts", "build.mjs")], { stdio: "inherit" });
const dir = join(out, "stage", "guardbook");
rmSync(dir, { recursive: true, force: true });
mkdirSync(dir, { recursive: true });
for (const name of ["bin", "dist", "README.md"]) cpSync(join(root, name), join(dir, name), { recursive: true });
copyFileSync(join(repository, "LICENSE"), join(dir, "LICENSE"));
const { private: _, scripts: __, devDependencies: ___, ...published } = own;
write(dir, {
  ...published,
  files: published.files.filter((f) => f !== "vendor"),
  optionalDependencies: Object.fromEntries(Object.keys(targets).map((p) => [`@guardbook/${p}`, own.version])),
});
process.stdout.write(pack(dir));
rmSync(join(out, "stage"), { recursive: true, force: true });
