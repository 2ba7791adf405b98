// One authority for what a conversation looks like: events in, conversation out. It knows no clock, no
// socket and no page, so that the same events always give the same conversation, live or replayed.
//
// `apply` changes the conversation it is given, but never an item of it: an item that changes is put
// there anew. Whoever draws can tell by identity what to draw again.

import { block, type Change, changes, field, object, output, places, plan, type Step, text } from "./content";
import type { Event, Happened, Outcome, Person, Prompt, Question, Recovery, Usage } from "./events";

interface Base {
  /** Tells it from every other, for as long as the conversation lasts. */
  key: string;
  /** When it began, in milliseconds. */
  at: number;
  /** The number of the event that began it. */
  seq: number;
}

export interface Said extends Base {
  is: "user";
  id: string;
  content: string;
  by: Person;
}
export interface Text extends Base {
  is: "text";
  text: string;
}
export interface Thought extends Base {
  is: "thought";
  text: string;
}
export interface Tool extends Base {
  is: "tool";
  id: string;
  title: string;
  kind: string;
  state: "pending" | "in_progress" | "completed" | "failed" | "cut";
  object: string;
  output: string;
  changes: Change[];
  places: string[];
  /** What it was given, as the agent has it. */
  input: unknown;
  until: number;
}
export interface Plan extends Base {
  is: "plan";
  steps: Step[];
}
export interface Asked extends Base {
  is: "prompt";
  prompt: Prompt;
  outcome: Outcome | null;
  until: number;
}
export interface Wondered extends Base {
  is: "question";
  question: Question;
  outcome: Outcome | null;
  until: number;
}
export interface Start extends Base {
  is: "start";
  steps: { step: string; state: "begun" | "done" | "failed"; message: string }[];
  /** The agent, once it is there. */
  agent: string | null;
  until: number;
}
export interface Noise extends Base {
  is: "stderr";
  text: string;
}
export interface Note extends Base {
  is: "note";
  grave: boolean;
  text: string;
}
export interface Turn extends Base {
  is: "turn";
  /** Why it ended, where it is not simply done. */
  why: string;
  /** How long it took, in milliseconds. */
  took: number;
}

export type Item = Said | Text | Thought | Tool | Plan | Asked | Wondered | Start | Noise | Note | Turn;

/** A message that the agent does not have yet. */
export interface Waiting {
  id: string;
  content: string;
}

export interface Conversation {
  items: Item[];
  /** The number of the last event. */
  seq: number;
  /** Earlier events are gone. */
  truncated: boolean;
  status: string;
  agent: string | null;
  mode: string | null;
  queue: Waiting[];
  /** Messages that will not be sent, and why. */
  refused: Map<string, string>;
  plan: Step[];
  usage: Usage;
  diff: { files: string[]; patch: string; truncated: boolean } | null;
  recovery: Recovery | null;
  ended: { reason: string; message: string } | null;
  /** When the turn that runs began; 0 where none does. */
  turn: number;
  /** Where an item stands, by its key. */
  index: Map<string, number>;
  epoch: number;
}

/** A conversation nothing has happened in. */
export function begin(): Conversation {
  return {
    items: [],
    seq: 0,
    truncated: false,
    status: "starting",
    agent: null,
    mode: null,
    queue: [],
    refused: new Map(),
    plan: [],
    usage: {},
    diff: null,
    recovery: null,
    ended: null,
    turn: 0,
    index: new Map(),
    epoch: 1,
  };
}

/** What is asked and not answered, in the order it was asked. */
export function open(conversation: Conversation): (Asked | Wondered)[] {
  return conversation.items.filter((item): item is Asked | Wondered => (item.is === "prompt" || item.is === "question") && !item.outcome);
}

function put(c: Conversation, item: Item): void {
  const at = c.index.get(item.key);
  if (at !== undefined) {
    c.items[at] = item;
    return;
  }
  c.index.set(item.key, c.items.length);
  c.items.push(item);
}

function find<T extends Item>(c: Conversation, key: string): T | undefined {
  const at = c.index.get(key);
  return at === undefined ? undefined : (c.items[at] as T | undefined);
}

/** Text goes on where it was the last that happened; else it begins anew. */
function speak(c: Conversation, happened: Happened, is: "text" | "thought", chunk: string): void {
  if (!chunk) return;
  const last = c.items.at(-1);
  if (last?.is === is) put(c, { ...last, text: last.text + chunk });
  else put(c, { is, key: `${is}${happened.seq}`, at: happened.at, seq: happened.seq, text: chunk });
}

function note(c: Conversation, happened: Happened, words: string, grave = false): void {
  put(c, { is: "note", key: `note${happened.seq}`, at: happened.at, seq: happened.seq, text: words, grave });
}

const STATES = new Set(["pending", "in_progress", "completed", "failed"]);

function tool(c: Conversation, happened: Happened, update: Record<string, unknown>): void {
  const id = text(update["toolCallId"]);
  const key = `tool${c.epoch}:${id}`;
  const known = find<Tool>(c, key);
  const state = STATES.has(text(update["status"])) ? (text(update["status"]) as Tool["state"]) : (known?.state ?? "pending");
  const content = update["content"];
  const input = update["rawInput"] ?? known?.input;
  const raw = field(update["rawOutput"], "output") ?? field(update["rawOutput"], "stdout") ?? update["rawOutput"];
  const said = Array.isArray(content) ? output(content) : "";
  put(c, {
    is: "tool",
    key,
    id,
    seq: known?.seq ?? happened.seq,
    at: known?.at ?? happened.at,
    until: happened.at,
    title: text(update["title"]) || (known?.title ?? ""),
    kind: text(update["kind"]) || (known?.kind ?? "other"),
    state,
    object: object(input) || (known?.object ?? ""),
    output: said || text(raw) || (known?.output ?? ""),
    changes: Array.isArray(content) && changes(content).length > 0 ? changes(content) : (known?.changes ?? []),
    places: Array.isArray(update["locations"]) ? places(update["locations"]) : (known?.places ?? []),
    input,
  });
}

function update(c: Conversation, happened: Happened, said: Record<string, unknown>): void {
  switch (said["sessionUpdate"]) {
    case "agent_message_chunk":
      return speak(c, happened, "text", block(said["content"]));
    case "agent_thought_chunk":
      return speak(c, happened, "thought", block(said["content"]));
    case "tool_call":
    case "tool_call_update":
      return tool(c, happened, said);
    case "plan": {
      c.plan = plan(said["entries"]);
      // One plan a turn, which changes in place.
      const key = `plan${c.turn}`;
      const known = find<Plan>(c, key);
      return put(c, { is: "plan", key, at: known?.at ?? happened.at, seq: known?.seq ?? happened.seq, steps: c.plan });
    }
    case "usage_update": {
      const amount = field(said["cost"], "amount");
      const used = said["used"];
      const size = said["size"];
      c.usage = {
        ...c.usage,
        ...(typeof used === "number" ? { context_used: used } : {}),
        ...(typeof size === "number" ? { context_size: size } : {}),
        ...(typeof amount === "number" ? { cost_micros: Math.round(amount * 1e6) } : {}),
      };
      return;
    }
    case "current_mode_update":
      c.mode = text(said["currentModeId"]) || c.mode;
      return;
    default:
      return;
  }
}

/** What ran when the agent was cut off does not run any more. */
function cut(c: Conversation, at: number): void {
  c.items.forEach((item, n) => {
    if (item.is === "tool" && (item.state === "pending" || item.state === "in_progress")) c.items[n] = { ...item, state: "cut", until: at };
  });
}

/** What is asked, when it is told beside the events: it may be older than those that are kept. */
export function asks(c: Conversation, asked: { is: "prompt"; prompt: Prompt } | { is: "question"; question: Question }, at: number): void {
  const key = `asked${asked.is === "prompt" ? asked.prompt.request : asked.question.request}`;
  if (!c.index.has(key)) put(c, { ...asked, key, at, seq: c.seq, outcome: null, until: at });
}

/** A message stands elsewhere. */
export function message(c: Conversation, event: Omit<Extract<Event, { type: "message" }>, "type">): void {
  const at = c.queue.findIndex((one) => one.id === event.client_msg_id);
  if (event.state === "queued") {
    const waiting = { id: event.client_msg_id, content: event.content ?? c.queue[at]?.content ?? "" };
    c.queue = at < 0 ? [...c.queue, waiting] : c.queue.with(at, waiting);
    return;
  }
  if (at >= 0) c.queue = c.queue.toSpliced(at, 1);
  if (event.state === "refused") c.refused.set(event.client_msg_id, event.code ?? "");
}

const LIMITS: Record<string, string> = { max_runtime: "the longest it may run", idle_timeout: "idle", max_output: "the most it may print", max_cost: "the most it may spend" };

const HELD: Record<string, string> = {
  long_update: "an update that was too long",
  long_line: "a line that was too long",
  not_json: "a line that is no message",
};

const CUT: Record<string, string> = {
  interrupted: "Interrupted",
  agent_died: "The agent stopped in the midst of this",
  runner_died: "The runner stopped in the midst of this",
  ended: "Ended in the midst of this",
};

/** The words for a step of the start. */
function step(c: Conversation, happened: Happened, event: Extract<Event, { type: "step" }>): void {
  const key = `start${happened.epoch}`;
  const known = find<Start>(c, key);
  const is = { step: event.step, state: event.state, message: event.message ?? "" };
  const steps = known?.steps ?? [];
  const at = steps.findIndex((one) => one.step === event.step);
  put(c, {
    is: "start",
    key,
    at: known?.at ?? happened.at,
    seq: known?.seq ?? happened.seq,
    steps: at < 0 ? [...steps, is] : steps.with(at, is),
    agent: null,
    until: happened.at,
  });
}

/** Whose outcome an item gets; where it is not known, nothing happens. */
function resolve(c: Conversation, request: string, outcome: Outcome, at: number): void {
  const item = find<Asked | Wondered>(c, `asked${request}`);
  if (item && !item.outcome) put(c, { ...item, outcome, until: at });
}

/** Takes an event in. One that was there already changes nothing. */
export function apply(c: Conversation, happened: Happened): void {
  const { seq, at, event } = happened;
  if (event.type === "truncated_before") {
    c.truncated = true;
    c.seq = Math.max(c.seq, seq - 1);
    return;
  }
  if (seq <= c.seq) return;
  c.seq = seq;
  c.epoch = happened.epoch;
  const base = { at, seq };
  switch (event.type) {
    case "step":
      return step(c, happened, event);
    case "started": {
      c.agent = event.agent ?? c.agent;
      c.recovery = event.recovery ?? c.recovery;
      c.ended = null;
      const known = find<Start>(c, `start${happened.epoch}`);
      if (known) put(c, { ...known, agent: event.agent ?? "the agent", until: at });
      return;
    }
    case "status":
      c.status = event.status;
      if (event.status === "running" && c.turn === 0) c.turn = at;
      return;
    case "user_message":
      c.queue = c.queue.filter((one) => one.id !== event.client_msg_id);
      if (c.turn === 0) c.turn = at;
      return put(c, { is: "user", key: `user${seq}`, ...base, id: event.client_msg_id, content: event.content, by: event.by });
    case "message":
      return message(c, event);
    case "update":
      return update(c, happened, event.update);
    case "cut":
      return note(c, happened, `Left out: ${HELD[event.what] ?? event.what}, ${event.bytes} bytes.`);
    case "mode":
      c.mode = event.mode;
      return event.by_agent ? note(c, happened, `The agent changed its mode to ${event.mode}.`) : undefined;
    case "prompt": {
      const { type: _, ...prompt } = event;
      return put(c, { is: "prompt", key: `asked${event.request}`, ...base, prompt, outcome: null, until: at });
    }
    case "question": {
      const { type: _, ...question } = event;
      return put(c, { is: "question", key: `asked${event.request}`, ...base, question, outcome: null, until: at });
    }
    case "resolved":
      return resolve(c, event.request, event.outcome, at);
    case "usage": {
      const { type: _, ...usage } = event;
      c.usage = { ...c.usage, ...Object.fromEntries(Object.entries(usage).filter(([, value]) => value != null)) };
      return;
    }
    case "diff": {
      const { type: _, ...diff } = event;
      c.diff = diff;
      return;
    }
    case "stderr": {
      const last = c.items.at(-1);
      if (last?.is === "stderr") return put(c, { ...last, text: `${last.text}\n${event.text}` });
      return put(c, { is: "stderr", key: `stderr${seq}`, ...base, text: event.text });
    }
    case "notice":
      return note(c, happened, `${event.message.charAt(0).toUpperCase()}${event.message.slice(1)}.`, true);
    case "turn_cut":
      cut(c, at);
      note(c, happened, `${CUT[event.why] ?? `Cut off: ${event.why}`}.`, event.why !== "interrupted");
      c.turn = 0;
      return;
    case "turn_ended": {
      // Of one that was cut off that has been said.
      if (c.turn === 0 && (event.stop_reason === "cancelled" || event.stop_reason === "end_turn")) return;
      const took = c.turn > 0 ? at - c.turn : 0;
      c.turn = 0;
      return put(c, { is: "turn", key: `turn${seq}`, ...base, why: event.stop_reason === "end_turn" ? "" : event.stop_reason, took });
    }
    case "limit_warned":
      return note(c, happened, `A limit is near (${LIMITS[event.limit] ?? event.limit}): ${event.seconds} s are left.`, true);
    case "limit_exceeded":
      return note(c, happened, `A limit is reached: ${LIMITS[event.limit] ?? event.limit}.`, true);
    case "ended":
      cut(c, at);
      c.turn = 0;
      c.status = event.reason === "failed" ? "failed" : "ended";
      c.recovery = event.recovery ?? c.recovery;
      c.ended = { reason: event.reason, message: event.message ?? "" };
      return;
    default:
      return;
  }
}
