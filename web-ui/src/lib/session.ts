// What a session is called, and how it ended, in words.

import { span } from "./format";
import type { Session } from "./types";

/** Whether it is over. */
export const isOver = (session: Session): boolean => session.ended_at !== null && session.ended_at !== undefined;

/** What it is: `terminal`, `terminal · tools`, `claude`. */
export function subject(session: Session): string {
  if (session.harness !== "shell") return session.harness;
  return session.profile === "default" ? "terminal" : `terminal · ${session.profile}`;
}

const REASONS: Record<string, string> = {
  exited: "exited",
  signalled: "killed",
  closed: "closed",
  max_runtime: "out of time",
  idle_timeout: "idle too long",
  max_output: "printed too much",
  max_cost: "spent too much",
  ended_by: "ended by a person",
  login_ended: "its login ended",
  runner_lost: "its runner was lost",
  shutdown: "the gateway was stopped",
  failed: "failed",
};

/** How it ended: `exited 0`, `out of time`, `ended by bo`. */
export function ending(session: Session): string {
  const why = REASONS[session.end_reason ?? ""] ?? session.end_reason ?? "";
  if (session.end_reason === "exited" && session.exit?.code != null) return `exited ${session.exit.code}`;
  if (session.end_reason === "signalled" && session.exit?.signal) return `killed by ${session.exit.signal}`;
  if (session.end_reason === "ended_by" && session.ended_by) return `ended by ${session.ended_by}`;
  return why;
}

/** How long it ran. */
export function ran(session: Session): string {
  if (!session.started_at || !session.ended_at) return "never started";
  return span((Date.parse(session.ended_at) - Date.parse(session.started_at)) / 1000);
}
