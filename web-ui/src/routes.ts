// Every view there is: its address, its name, who may go there, and its file, which is loaded when it
// is first gone to. A new view is a file and a line here; the parts of an address that begin with `:`
// are its props. The first line that fits is taken.

import type { Component } from "svelte";
import type { Role } from "./lib/types";
import type { Picture } from "./lib/pictures";

export interface View {
  path: string;
  title: string;
  /** Its picture in the rail; without one it is not in the rail. */
  rail?: Picture;
  /** Left out: everybody. */
  roles?: readonly Role[];
  /** To the edges of the window, without the margins of a page. */
  edge?: true;
  // biome-ignore lint/suspicious/noExplicitAny: views have props of their own
  load: () => Promise<{ default: Component<any> }>;
}

const WATCHING: readonly Role[] = ["admin", "auditor"];

export const views: readonly View[] = [
  { path: "/sessions", title: "Sessions", rail: "sessions", load: () => import("./pages/Sessions.svelte") },
  { path: "/sessions/new", title: "New session", load: () => import("./pages/NewSession.svelte") },
  { path: "/sessions/:id", title: "Session", edge: true, load: () => import("./pages/Session.svelte") },
  { path: "/sessions/:id/files", title: "Files", load: () => import("./pages/Files.svelte") },
  { path: "/recordings", title: "Recordings", rail: "recordings", load: () => import("./pages/Recordings.svelte") },
  { path: "/recordings/:id", title: "Recording", edge: true, load: () => import("./pages/Replay.svelte") },
  { path: "/runners", title: "Runners", rail: "runners", load: () => import("./pages/Runners.svelte") },
  { path: "/profiles", title: "Profiles", rail: "profiles", load: () => import("./pages/Profiles.svelte") },
  { path: "/health", title: "Health", rail: "health", load: () => import("./pages/Health.svelte") },
  { path: "/audit", title: "Audit log", rail: "audit", roles: WATCHING, load: () => import("./pages/Audit.svelte") },
  { path: "/people", title: "People", rail: "people", roles: ["admin"], load: () => import("./pages/People.svelte") },
  { path: "/me", title: "My account", rail: "me", load: () => import("./pages/Me.svelte") },
];

/** The view at this address, and its props. */
export function find(path: string): { view: View; props: Record<string, string> } | null {
  const parts = path.split("/").filter(Boolean);
  for (const view of views) {
    const wanted = view.path.split("/").filter(Boolean);
    if (wanted.length !== parts.length) continue;
    const props: Record<string, string> = {};
    const fits = wanted.every((part, n) => {
      const is = parts[n] ?? "";
      if (!part.startsWith(":")) return part === is;
      props[part.slice(1)] = decoded(is);
      return true;
    });
    if (fits) return { view, props };
  }
  return null;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
