/** The provider's API that a wrapped client speaks. */
export type Provider = "openai" | "azure" | "anthropic";

/** Where a request goes at the server, and where the server sends it on to. */
export interface Route {
  /** Under the server's address: `/openai/v1/chat/completions`. */
  path: string;
  /** The provider's base URL without `/v1`. One that ends in `/` stands in the place of `/v1`. */
  upstream: string;
  provider: Provider;
}

// A wrapped client's base URL has this host in the place of its own. guardedFetch
// knows what it stands for; whatever goes past it, as a WebSocket does, ends at a
// name that nobody can have (RFC 6761) and that says what is wrong.
const host = "websockets-are-not-guarded.guardbook.invalid";

/** The base URL of a wrapped client. */
export function veil(base: string): string {
  const u = new URL(base);
  if (u.hostname === host) return base;
  const path = `${u.pathname}${u.search}`;
  return `http://${host}/${Buffer.from(u.origin).toString("base64url")}${path === "/" ? "" : path}`;
}

/** The URL that a wrapped client means. */
export function unveil(url: string): { url: string; veiled: boolean } {
  const u = new URL(url);
  if (u.hostname !== host) return { url, veiled: false };
  const [, origin = "", rest = ""] = /^\/([^/]*)(.*)$/.exec(u.pathname) ?? [];
  return { url: Buffer.from(origin, "base64url").toString() + rest + u.search, veiled: true };
}

/** Finds out which API a URL is part of. A client's base URL, where it is known, says where its API begins. */
export function route(url: string, provider?: Provider, base?: string): Route | undefined {
  const u = new URL(url);
  const path = u.pathname;
  if (provider === "openai" && base !== undefined) {
    const { origin, pathname } = new URL(base);
    const whole = pathname.replace(/\/+$/, "");
    if (u.origin === origin && path.startsWith(`${whole}/`)) {
      const upstream = origin + (whole.endsWith("/v1") ? whole.slice(0, -"/v1".length) : `${whole}/`);
      return { path: `/openai/v1${path.slice(whole.length)}${u.search}`, upstream, provider };
    }
  }
  const cut = (at: number, skip: number) => ({
    upstream: u.origin + path.slice(0, at),
    rest: path.slice(at + skip) + u.search,
  });
  const v1 = path.indexOf("/v1/");
  const azure = path.indexOf("/openai/");
  if (
    azure >= 0 &&
    (path.startsWith("/openai/deployments/", azure) || (provider === "azure" && !path.startsWith("/openai/v1/", azure)))
  ) {
    const { upstream, rest } = cut(azure, 0);
    return { path: `/azure${rest}`, upstream, provider: "azure" };
  }
  if (v1 < 0) return undefined;
  const { upstream, rest } = cut(v1, 0);
  const p =
    provider === "azure"
      ? "openai"
      : (provider ?? (/^\/v1\/(messages|complete)(\/|\?|$)/.test(rest) ? "anthropic" : "openai"));
  return { path: `/${p}${rest}`, upstream, provider: p };
}
