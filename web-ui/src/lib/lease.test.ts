import { expect, test } from "vitest";
import { use } from "./lease";
import type { Session } from "./types";

const now = Date.parse("2026-11-22T10:00:00Z");
const at = (seconds: number): string => new Date(now + seconds * 1000).toISOString();

function session(left: number | null, idle: number | null, bytes: number): Session {
  return {
    limits: { max_runtime_seconds: 3600, idle_timeout_seconds: 1800, max_output_bytes: 100 * 2 ** 20 },
    lease: {
      deadline: left === null ? null : at(left),
      idle_deadline: idle === null ? null : at(idle),
      remaining_seconds: left,
      idle_seconds: 0,
      output_bytes: bytes,
    },
  } as Session;
}

test("a lease is told as people say it", () => {
  const told = use(session(2460, 1620, 12 * 2 ** 20), now);
  expect(told.words).toBe("41 min left · idle 3 min of 30 min · 12 MB of 100 MB");
  expect(told.time).toBeCloseTo(1140 / 3600);
  expect(told.near).toBe(false);
});

test("each limit that is near says so", () => {
  expect(use(session(60, 1800, 0), now).near).toBe(true);
  expect(use(session(2000, 59, 0), now).near).toBe(true);
  expect(use(session(2000, 1800, 95 * 2 ** 20), now).near).toBe(true);
});

test("what is over does not run on, and no limit is no meter", () => {
  expect(use(session(-5, 10, 0), now).left).toBe(0);
  const free = use({ ...session(null, null, 5), limits: { max_runtime_seconds: null, idle_timeout_seconds: null, max_output_bytes: null } }, now);
  expect([free.time, free.idle, free.output, free.words]).toEqual([null, null, null, "no end"]);
});
