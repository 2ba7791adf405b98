// What happens in an agent's session, as the gateway tells it: its shapes are made of the gateway's own
// document, like all others.

import type { Schemas } from "../types";

export type Person = Schemas["Person"];
export type Decision = Schemas["Decision"];
export type Rule = Schemas["Rule"];
export type Prompt = Schemas["Prompt"];
export type Question = Schemas["Question"];
export type Outcome = Schemas["Outcome"];
export type Usage = Schemas["Usage"];
export type Recovery = Schemas["Recovery"];
export type MessageState = Schemas["MessageState"];
export type Event = Schemas["Event"];

/** An update of the Agent Client Protocol; what is in it is the agent's, and is read with care. */
export type Update = Extract<Event, { type: "update" }>["update"];

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
