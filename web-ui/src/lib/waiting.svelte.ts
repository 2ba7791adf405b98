// Which of one's agents wait for a person; and, for who wants it, a word from the browser when one
// begins to. Nobody is asked for leave but by a click of theirs, and nothing makes a sound.

import { peek } from "./api";
import { login } from "./login.svelte";
import { push } from "./push.svelte";
import { go } from "./router.svelte";
import type { Page, Session } from "./types";

const KEPT = "sojourn-notify";
const EVERY = 5000;
/** Nobody has more that run. */
const MOST = 50;

const can = typeof Notification !== "undefined";

let rows = $state.raw<Session[]>([]);
let wanted = $state(kept());
let leave = $state<NotificationPermission>(can ? Notification.permission : "denied");
let known: Set<string> | null = null;

function kept(): boolean {
  try {
    return localStorage.getItem(KEPT) === "yes";
  } catch {
    return false;
  }
}

function keep(): void {
  try {
    localStorage.setItem(KEPT, wanted ? "yes" : "no");
  } catch {
    // Then it is so until the page is left.
  }
}

export const waiting = {
  get rows(): Session[] {
    return rows;
  },
  /** Whether this browser can, and may, say so. */
  get can(): boolean {
    return can && leave !== "denied";
  },
  get on(): boolean {
    return can && wanted && leave === "granted";
  },

  /** On or off. Called by a click: only then a browser asks for leave. */
  async turn(): Promise<void> {
    if (waiting.on) wanted = false;
    else if (can) {
      leave = await Notification.requestPermission();
      wanted = leave === "granted";
    }
    keep();
  },

  /** Looks from now on, also while nobody looks at the page; until the function that is given back is called. */
  watch(): () => void {
    let timer: ReturnType<typeof setTimeout>;
    let over = false;
    const turn = async (): Promise<void> => {
      await look().catch(() => {});
      if (!over) timer = setTimeout(() => void turn(), EVERY);
    };
    void turn();
    void push.renew().catch(() => {});
    return () => {
      over = true;
      clearTimeout(timer);
      rows = [];
      known = null;
    };
  },
};

async function look(): Promise<void> {
  const me = login.me?.user;
  if (!me || login.me?.role === "auditor") return;
  const page = await peek<Page<Session>>(`/api/sessions?status=waiting&user=${encodeURIComponent(me)}&limit=${MOST}`);
  const now = page.items.filter((row) => row.harness !== "shell");
  // What waited before the page was there is no news.
  const fresh = known ? now.filter((row) => !known?.has(row.id)) : [];
  known = new Set(now.map((row) => row.id));
  rows = now;
  for (const row of fresh) tell(row);
}

function tell(row: Session): void {
  const here = document.visibilityState === "visible" && location.pathname === `/sessions/${row.id}`;
  // A browser that is told by the gateway says it anyway, and better.
  if (!waiting.on || here || push.id) return;
  try {
    const told = new Notification(`Prompt open · ${row.harness}`, {
      body: [row.runner, row.cwd].filter(Boolean).join(" · "),
      tag: row.id,
      silent: true,
      icon: "/icon.svg",
    });
    told.onclick = () => {
      focus();
      go(`/sessions/${row.id}`);
      told.close();
    };
  } catch {
    // Some browsers only let a worker say it.
  }
}
