// What happens in an agent's session, as the gateway tells it: the words of PROTOCOL.md.

export interface Person {
  user: string;
  address?: string | null;
}

export type Decision = "allow" | "deny";

export type Rule = { match: "exact"; kind: string; input_hash: string } | { match: "below"; kind: string; directory: string };

export interface Prompt {
  request: string;
  tool: string;
  kind: string;
  description: string;
  details: Record<string, unknown>;
  diff?: string | null;
  input_hash: string;
  rule?: Rule | null;
}

export interface Question {
  request: string;
  question: string;
  schema: unknown;
  input_hash: string;
}

export type Outcome =
  | { is: "answered"; decision: Decision; by: Person }
  | { is: "settled"; decision: Decision; rule?: Rule | null }
  | { is: "withdrawn" }
  | { is: "lost" }
  | { is: "expired" };

export interface Usage {
  input_tokens?: number | null;
  output_tokens?: number | null;
  context_used?: number | null;
  context_size?: number | null;
  cost_micros?: number | null;
}

export interface Recovery {
  agent_session_id: string;
  cwd: string;
  can_resume: boolean;
}

export type MessageState = "queued" | "sent" | "cancelled" | "refused";

/** An update of the Agent Client Protocol; what is in it is the agent's, and is read with care. */
export interface Update {
  sessionUpdate?: unknown;
  [field: string]: unknown;
}

export type Event =
  | { type: "step"; step: string; state: "begun" | "done" | "failed"; message?: string | null }
  | { type: "started"; agent?: string | null; recovery?: Recovery | null }
  | { type: "status"; status: string }
  | { type: "user_message"; client_msg_id: string; content: string; by: Person }
  | { type: "message"; client_msg_id: string; state: MessageState; content?: string | null; code?: string | null }
  | { type: "update"; update: Update }
  | { type: "cut"; what: string; bytes: number }
  | { type: "mode"; mode: string; by_agent: boolean }
  | ({ type: "prompt" } & Prompt)
  | ({ type: "question" } & Question)
  | { type: "resolved"; request: string; outcome: Outcome }
  | ({ type: "usage" } & Usage)
  | { type: "diff"; files: string[]; patch: string; truncated: boolean }
  | { type: "stderr"; text: string }
  | { type: "notice"; code: string; message: string }
  | { type: "turn_cut"; why: string }
  | { type: "turn_ended"; stop_reason: string }
  | { type: "limit_warned"; limit: string; seconds: number }
  | { type: "limit_exceeded"; limit: string; configured: number; reached: number }
  | { type: "resized"; cols: number; rows: number }
  | {
      type: "ended";
      reason: string;
      exit?: { code?: number; signal?: string } | null;
      output_bytes: number;
      message?: string | null;
      recovery?: Recovery | null;
    }
  | { type: "truncated_before"; seq: number };

/** An event with its place and its time, in milliseconds since 1970. */
export interface Happened {
  seq: number;
  epoch: number;
  at: number;
  event: Event;
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

/** Times come as text or as a number since 1970, whose unit shows in its size. */
function time(at: unknown): number {
  if (typeof at === "string") return Date.parse(at) || 0;
  if (typeof at !== "number") return 0;
  return at > 1e14 ? at / 1000 : at;
}

/** Reads an event; null where it is none. */
export function read(frame: unknown): Happened | null {
  if (!isObject(frame)) return null;
  const { epoch, at, event } = frame;
  if (!isObject(event) || typeof event["type"] !== "string") return null;
  // What is not kept any more has no place of its own.
  const seq = event["type"] === "truncated_before" ? event["seq"] : frame["seq"];
  if (typeof seq !== "number") return null;
  return { seq, epoch: typeof epoch === "number" ? epoch : 1, at: time(at), event: event as unknown as Event };
}
