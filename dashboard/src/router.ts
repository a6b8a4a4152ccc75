// A router on the browser's history: the path says which page, the query says
// which filters, so that every view is a link that can be sent to a colleague.

import { type AnchorHTMLAttributes, createElement, type MouseEvent, useSyncExternalStore } from "react";

/** First path segments that this application answers; dashboard.go has the same list. */
export const routes = ["", "agents", "alerts", "book", "events", "evidence", "login", "policies", "sessions"] as const;

export interface Place {
  /** Decoded path segments: "/events/0198f" is ["events", "0198f"], "/" is [""]. */
  path: string[];
  query: URLSearchParams;
}

const changed = "guardbook:navigate";

/** parse reads a path and a query string. A segment that is not valid percent-encoding stays as it is. */
export function parse(pathname: string, search: string): Place {
  const path = pathname
    .replace(/^\/+|\/+$/g, "")
    .split("/")
    .map((s) => {
      try {
        return decodeURIComponent(s);
      } catch {
        return s;
      }
    });
  return { path, query: new URLSearchParams(search) };
}

/** href builds a path from segments (encoded here) and a query (empty values left out). */
export function href(segments: string[], query: Record<string, string | undefined> = {}): string {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(query)) if (v) q.set(k, v);
  const s = q.toString();
  return "/" + segments.map(encodeURIComponent).join("/") + (s ? "?" + s : "");
}

export function navigate(to: string, how: "push" | "replace" = "push") {
  if (to === location.pathname + location.search) return;
  if (how === "push") history.pushState(null, "", to);
  else history.replaceState(null, "", to);
  window.dispatchEvent(new Event(changed));
  if (how === "push") window.scrollTo(0, 0);
}

function subscribe(f: () => void) {
  window.addEventListener("popstate", f);
  window.addEventListener(changed, f);
  return () => {
    window.removeEventListener("popstate", f);
    window.removeEventListener(changed, f);
  };
}

/** usePlace is where we are; the component renders again when that changes. */
export function usePlace(): Place {
  const url = useSyncExternalStore(subscribe, () => location.pathname + location.search);
  const cut = url.indexOf("?");
  return cut < 0 ? parse(url, "") : parse(url.slice(0, cut), url.slice(cut));
}

/** Link is an anchor that stays in the application; with a modifier key it is an ordinary link. */
export function Link({ to, ...rest }: { to: string } & Omit<AnchorHTMLAttributes<HTMLAnchorElement>, "href">) {
  return createElement("a", {
    ...rest,
    href: to,
    onClick: (e: MouseEvent<HTMLAnchorElement>) => {
      rest.onClick?.(e);
      if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
      e.preventDefault();
      navigate(to);
    },
  });
}
