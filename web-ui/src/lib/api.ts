// Speaks to the gateway. An answer that is no success becomes a Refusal that can be shown.

import { span } from "./format";
import type { Problem } from "./types";

/** The gateway said no, or nothing. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly problem: Problem,
  ) {
    super(problem.error);
  }

  get code(): string {
    return this.problem.code;
  }
}

/** An error as a sentence. The gateway's lines begin small, as lines of a log do. */
export function told(error: unknown): string {
  const line = error instanceof Error ? error.message : String(error);
  const wait = error instanceof Refusal ? error.problem.retry_after_ms : undefined;
  const sentence = line.charAt(0).toUpperCase() + line.slice(1) + (/[.!?]$/.test(line) ? "" : ".");
  return wait ? `${sentence} The next try counts in ${span(Math.ceil(wait / 1000))}.` : sentence;
}

let csrf = "";

/** The token that proves that a request comes from this page. */
export function setCsrfToken(token: string): void {
  csrf = token;
}

/** Called when the gateway says that this login is over. */
let onSignedOut: (problem: Problem) => void = () => {};

export function whenSignedOut(tell: (problem: Problem) => void): void {
  onSignedOut = tell;
}

const OVER = new Set(["LOGIN_REQUIRED", "SESSION_EXPIRED", "SESSION_REVOKED"]);

type Method = "GET" | "POST" | "PATCH" | "DELETE";

/** Whether somebody wants this, or the page asks by itself, which keeps no login alive. */
type Whom = "person" | "page";

/** Asks the gateway. */
export async function ask<T>(method: Method, path: string, body?: unknown, signal?: AbortSignal, whom: Whom = "person"): Promise<T> {
  const headers: Record<string, string> = { accept: "application/json" };
  if (whom === "page") headers["x-sojourn-poll"] = "1";
  if (method !== "GET" && csrf) headers["x-csrf-token"] = csrf;
  if (body !== undefined) headers["content-type"] = "application/json";
  const init: RequestInit = { method, headers, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) init.body = JSON.stringify(body);
  if (signal) init.signal = signal;
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, init);
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0, { error: "The gateway does not answer. Your sessions go on; this page will try again.", code: "UNREACHABLE" });
  }
  if (response.status === 204) return undefined as T;
  const answer = parse(text);
  if (response.ok) return answer as T;
  const problem = isProblem(answer) ? answer : { error: `The gateway answered ${response.status}.`, code: "UNKNOWN" };
  if (response.status === 401 && OVER.has(problem.code)) onSignedOut(problem);
  throw new Refusal(response.status, problem);
}

function parse(text: string): unknown {
  try {
    return text ? JSON.parse(text) : undefined;
  } catch {
    return undefined;
  }
}

function isProblem(answer: unknown): answer is Problem {
  return typeof answer === "object" && answer !== null && "error" in answer && "code" in answer;
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> => ask("GET", path, undefined, signal);
/** Asks to stay up to date. */
export const peek = <T>(path: string, signal?: AbortSignal): Promise<T> => ask("GET", path, undefined, signal, "page");
export const post = <T>(path: string, body?: unknown): Promise<T> => ask("POST", path, body ?? {});
export const patch = <T>(path: string, body: unknown): Promise<T> => ask("PATCH", path, body);
export const remove = <T>(path: string): Promise<T> => ask("DELETE", path);
