// Who is signed in here, and for how long still.

import { get, peek, post, Refusal, setCsrfToken, whenSignedOut } from "./api";
import { clock } from "./clock.svelte";
import type { Deadlines, Me, Problem, SignedIn } from "./types";

type Stage = "asking" | "out" | "code" | "in";

/** Seconds before its end from which a login says so: one can do something about the first. */
const REMIND = { idle: 300, lifetime: 900 };

let stage = $state<Stage>("asking");
let me = $state<Me | null>(null);
let over = $state<Problem | null>(null);
let deadlines = $state<Deadlines | null>(null);

whenSignedOut((problem) => {
  // Who never was signed in needs no explanation.
  if (problem.code !== "LOGIN_REQUIRED") over = problem;
  leave();
});

const KEPT = "sojourn-in";

/** Whether somebody signed in with this browser and did not leave. It opens nothing. */
function remembered(): boolean {
  try {
    return localStorage.getItem(KEPT) !== null;
  } catch {
    return true;
  }
}

function remember(is: boolean): void {
  try {
    if (is) localStorage.setItem(KEPT, "1");
    else localStorage.removeItem(KEPT);
  } catch {
    // Then it is asked each time.
  }
}

function leave(): void {
  remember(false);
  stage = "out";
  me = null;
  deadlines = null;
  setCsrfToken("");
}

export const login = {
  get stage(): Stage {
    return stage;
  },
  get me(): Me | null {
    return me;
  },
  /** Why the login before this one ended, if it ended by itself. */
  get over(): Problem | null {
    return over;
  },
  /** Until when it lasts. */
  get deadlines(): Deadlines | null {
    return deadlines;
  },
  /** Seconds until it ends if nothing is done. */
  get left(): number {
    if (!deadlines) return Number.POSITIVE_INFINITY;
    const ends = Math.min(Date.parse(deadlines.idle_expires_at), Date.parse(deadlines.lifetime_expires_at));
    return (ends - clock.now) / 1000;
  },

  /** Which end is near enough to speak of. */
  get warns(): "idle" | "lifetime" | null {
    if (!deadlines) return null;
    const which = Date.parse(deadlines.idle_expires_at) < Date.parse(deadlines.lifetime_expires_at) ? "idle" : "lifetime";
    return login.left <= REMIND[which] ? which : null;
  },

  /** Finds out whether somebody is signed in. */
  async look(): Promise<void> {
    // Who was never in here, or went out, need not ask to know.
    if (stage === "asking" && !remembered()) return leave();
    try {
      me = await get<Me>("/api/me");
      setCsrfToken(me.csrf_token ?? "");
      stage = "in";
      remember(true);
      over = null;
      await login.lookAtTime();
    } catch (error) {
      if (!(error instanceof Refusal) || error.status !== 401) throw error;
      leave();
    }
  },

  async lookAtTime(): Promise<void> {
    deadlines = await peek<Deadlines>("/api/me/login");
    clock.set(deadlines.now);
  },

  async signIn(username: string, password: string): Promise<void> {
    const answer = await post<SignedIn>("/api/auth/login", { username, password });
    if ("step" in answer) stage = "code";
    else await login.look();
  },

  async secondFactor(code: string, recovery: boolean): Promise<void> {
    await post<SignedIn>(recovery ? "/api/auth/login/recovery" : "/api/auth/login/totp", { code });
    await login.look();
  },

  /** Back to the first step. */
  startOver(): void {
    stage = "out";
  },

  async stay(): Promise<void> {
    await post("/api/me/login/extend");
    await login.lookAtTime();
  },

  async signOut(): Promise<void> {
    await post("/api/auth/logout");
    over = null;
    leave();
  },

  /** The password was changed: every login is over, this one too. */
  passwordChanged(byLink: boolean): void {
    const ended = byLink ? "" : ", and every login of yours has ended";
    over = { error: `Your password is changed${ended}. Sign in with the new one.`, code: "CHANGED" };
    leave();
  },

  /** A socket says that it is over: why, the gateway tells who asks. */
  async check(): Promise<void> {
    try {
      await peek("/api/me/login");
    } catch {
      // What the answer means was dealt with where it came in.
    }
  },
};
