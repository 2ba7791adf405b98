// What a session's lease looks like at a moment: how much of each limit is used, and the words.

import { size, span } from "./format";
import type { Session } from "./types";

export interface Use {
  /** Used of the runtime, 0 to 1; null where there is no limit. */
  time: number | null;
  /** Where the idle deadline stands on the same scale; null where there is none. */
  idle: number | null;
  /** Used of the output, 0 to 1. */
  output: number | null;
  /** Seconds that are left; null where there is no end. */
  left: number | null;
  /** In its last minute, or close to another limit. */
  near: boolean;
  words: string;
}

const part = (used: number, of: number): number => Math.min(1, Math.max(0, used / of));

/** How a session stands with its limits at `now`, in milliseconds. */
export function use(session: Session, now: number): Use {
  const { limits, lease } = session;
  const runtime = limits.max_runtime_seconds;
  const quiet = limits.idle_timeout_seconds;
  const most = limits.max_output_bytes;
  const deadline = lease?.deadline ? Date.parse(lease.deadline) : null;
  const idleEnd = lease?.idle_deadline ? Date.parse(lease.idle_deadline) : null;
  const left = deadline === null ? null : Math.max(0, (deadline - now) / 1000);
  const idleLeft = idleEnd === null ? null : Math.max(0, (idleEnd - now) / 1000);

  const time = left === null || !runtime ? null : part(runtime - left, runtime);
  const idle = idleLeft === null || left === null || !runtime ? null : part(runtime - left + idleLeft, runtime);
  const output = lease && most ? part(lease.output_bytes, most) : null;

  const words: string[] = [];
  words.push(left === null ? "no end" : `${span(left)} left`);
  if (quiet && idleLeft !== null) words.push(`idle ${span(quiet - idleLeft)} of ${span(quiet)}`);
  if (lease && most) words.push(`${size(lease.output_bytes)} of ${size(most)}`);
  const near = (left !== null && left <= 60) || (idleLeft !== null && idleLeft <= 60) || (output !== null && output >= 0.9);
  return { time, idle, output, left, near, words: words.join(" · ") };
}
