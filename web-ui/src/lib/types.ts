// The shapes of the API that the page uses.

export interface Problem {
  error: string;
  code: string;
  field?: string;
  reason?: string;
  retry_after_ms?: number;
  limit?: string;
  max_sessions?: number;
}

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

export type Status = "starting" | "running" | "waiting" | "disconnected" | "ending" | "ended" | "failed";

export interface Limits {
  max_runtime_seconds: number | null;
  idle_timeout_seconds: number | null;
  max_output_bytes: number | null;
}

export interface Lease {
  deadline: string | null;
  idle_deadline: string | null;
  remaining_seconds: number | null;
  idle_seconds: number | null;
  output_bytes: number;
}

export interface Session {
  id: string;
  user: string | null;
  door: string;
  harness: string;
  profile: string;
  runner: string | null;
  cwd: string | null;
  status: Status;
  attached: boolean;
  why: string | null;
  labels: Record<string, string>;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
  exit: { code?: number; signal?: string } | null;
  end_reason: string | null;
  limits: Limits;
  lease: Lease | null;
  /** How an agent's conversation can be taken up again. */
  recovery?: { agent_session_id: string; cwd: string; can_resume: boolean } | null;
  /** What it left in its sandbox, where that was kept. */
  files?: { entries: number; bytes: number; truncated: boolean; removed?: { at: string; why: string } | null } | null;
  recording_removed?: { at: string; why: string } | null;
}

export interface Me {
  user: string;
  role: "admin" | "member" | "auditor";
  must_change: boolean;
  second_factor: boolean;
  csrf_token: string;
}

export interface SignedIn {
  user?: unknown;
  csrf_token?: string;
  step?: "totp";
}

export interface Deadlines {
  now: string;
  idle_expires_at: string;
  lifetime_expires_at: string;
}

export interface Login {
  id: string;
  device: string;
  address: string;
  created_at: string;
  last_seen_at: string;
  current: boolean;
}

export interface Key {
  id: string;
  fingerprint: string;
  comment: string;
  added_at: string;
}

export interface Token {
  id: string;
  name: string;
  scopes: string[];
  runner: string | null;
  status: "active" | "expired" | "revoked" | "disabled";
  created_at: string;
  expires_at: string | null;
  last_used_at: string | null;
}

export interface Account {
  id: string;
  name: string;
  role: "admin" | "member" | "auditor";
  has_password: boolean;
  must_change: boolean;
  disabled: boolean;
  created_at: string;
}

export interface AuditEvent {
  seq: number;
  event_id: string;
  timestamp: string;
  action: string;
  actor: { type: string; user?: string; ip_address?: string; user_agent?: string };
  session_id?: string;
  details: Record<string, unknown>;
}
