// What somebody asked for, for as long as they may have to correct it: kept in this window alone, under
// the session that was to be made of it.

const KEY = "sojourn-wish";
const FIELDS = ["harness", "runner", "cwd", "profile", "prompt", "model", "permission_mode", "why"] as const;

type Wish = Partial<Record<(typeof FIELDS)[number], string>>;

/** Keeps it. */
export function keepWish(session: string, body: Record<string, unknown>): void {
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ session, body }));
  } catch {
    // It would only have saved some typing.
  }
}

/** What was asked for when this session was to be started; empty where that is not known here. */
export function wish(session: string | null): Wish {
  const found: Wish = {};
  if (!session) return found;
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "{}") as { session?: string; body?: Record<string, unknown> };
    if (kept.session !== session) return found;
    for (const field of FIELDS) {
      const value = kept.body?.[field];
      if (typeof value === "string") found[field] = value;
    }
  } catch {
    // The same.
  }
  return found;
}
