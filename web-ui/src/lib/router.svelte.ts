// Every state of the page has an address, and the back button works.

let path = $state(location.pathname);
let query = $state(location.search);

addEventListener("popstate", () => {
  path = location.pathname;
  query = location.search;
});

export const route = {
  get path(): string {
    return path;
  },
  /** The parts of the path. */
  get parts(): string[] {
    return path.split("/").filter(Boolean);
  },
  get query(): URLSearchParams {
    return new URLSearchParams(query);
  },
};

/** Goes to another address on this page. */
export function go(to: string, how: "push" | "replace" = "push"): void {
  const url = new URL(to, location.href);
  // Nothing here may send anybody elsewhere.
  if (url.origin !== location.origin) return;
  if (how === "push") history.pushState(null, "", url);
  else history.replaceState(null, "", url);
  path = url.pathname;
  query = url.search;
}

/** Sets fields of the query; an empty one goes. */
export function filter(fields: Record<string, string>): void {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(fields)) {
    if (value) next.set(name, value);
    else next.delete(name);
  }
  const text = next.toString();
  go(text ? `${path}?${text}` : path, "replace");
}

/** Follows links within the page without loading it anew. */
export function follow(event: MouseEvent): void {
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!plain || !link || link.target || link.hasAttribute("download")) return;
  if (link.origin !== location.origin || link.pathname.startsWith("/api/")) return;
  // To a place on this page: the browser knows how.
  if (link.hash && link.pathname === path) return;
  event.preventDefault();
  go(link.href);
}
