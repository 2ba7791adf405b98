// The shapes of the API, by the names the page calls them. They are made of the gateway's own document
// (`make types`); here stands only what a document cannot say.

import type { components } from "./schema";

export type Schemas = components["schemas"];

export type Session = Schemas["Session"];
export type Status = Schemas["Status"];
export type Me = Omit<Schemas["Me"], "role"> & { role: Role };
export type SignedIn = Schemas["Step"];
export type Deadlines = Schemas["Until"];
export type Login = Schemas["Listed"];
export type Key = Schemas["Key"];
export type Token = Schemas["Token"];
export type MadeToken = Schemas["MadeToken"];
export type Account = Schemas["Account"];
export type MadeAccount = Schemas["MadeAccount"];
export type Link = Schemas["Link"];
export type Enrolment = Schemas["Enrolment"];
export type Standing = Schemas["Standing"];
export type Runner = Schemas["Runner"];
export type Profile = Schemas["Profile"];
export type PushDevice = Schemas["PushDevice"];
export type PushDevices = Schemas["PushDevices"];
export type Verified = Schemas["Verified"];

/** What is said on the socket of a session, and told. */
export type TerminalSaid = Schemas["TerminalSaid"];
export type TerminalTold = Schemas["TerminalTold"];
export type AgentSaid = Schemas["AgentSaid"];
export type AgentTold = Schemas["AgentTold"];

export type Role = "admin" | "member" | "auditor";

/** A page of a list. */
export interface Page<T> {
  items: T[];
  next_cursor?: string | null;
}

/** Every refusal, with the fields that some have. */
export interface Problem {
  error: string;
  code: string;
  field?: string;
  reason?: string;
  retry_after_ms?: number;
  limit?: string;
  max_sessions?: number;
}

/** A line of the audit log, as it stands in its file. */
export interface AuditEvent {
  seq: number;
  event_id: string;
  timestamp: string;
  action: string;
  actor: { type: string; user?: string; ip_address?: string; user_agent?: string; [more: string]: unknown };
  session_id?: string;
  details?: Record<string, unknown>;
  [more: string]: unknown;
}
