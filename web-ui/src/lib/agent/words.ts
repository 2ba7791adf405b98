// What agents do and ask, in words.

import type { Asked, Tool, Wondered } from "./conversation";
import { field, text } from "./content";
import type { Outcome, Prompt, Rule, Usage } from "./events";

const VERBS: Record<string, [doing: string, done: string]> = {
  read: ["Reads", "Read"],
  edit: ["Edits", "Edited"],
  delete: ["Deletes", "Deleted"],
  move: ["Moves", "Moved"],
  search: ["Searches", "Searched"],
  execute: ["Runs", "Ran"],
  think: ["Thinks", "Thought"],
  fetch: ["Fetches", "Fetched"],
  switch_mode: ["Changes its mode", "Changed its mode"],
};

/** The verb for a tool call: what it does, or did. */
export function verb(tool: Tool): string {
  const [doing, done] = VERBS[tool.kind] ?? ["Uses", "Used"];
  return tool.state === "completed" || tool.state === "failed" || tool.state === "cut" ? done : doing;
}

/** A path as it is called from where the agent works. */
export function within(path: string, cwd: string | null | undefined): string {
  if (!cwd || cwd === "/") return path;
  return path.startsWith(`${cwd}/`) ? path.slice(cwd.length + 1) : path;
}

/** What it is about, on one line. */
export function about(tool: Tool): string {
  const path = tool.changes[0]?.path ?? "";
  const what = tool.object || path || tool.places[0] || tool.title || tool.id;
  return what.split("\n", 1)[0] ?? "";
}

/** How it went, in a few words. */
export function result(tool: Tool): string {
  if (tool.state === "cut") return "cut off";
  if (tool.state === "failed") return "failed";
  if (tool.state !== "completed") return "";
  const lines = tool.output ? tool.output.split("\n").length : 0;
  if (lines > 1) return `${lines} lines`;
  return tool.output.length > 0 && tool.output.length <= 40 ? tool.output : "";
}

const KINDS: Record<string, string> = {
  execute: "run a command",
  edit: "change a file",
  delete: "delete a file",
  move: "move a file",
  read: "read a file",
  fetch: "fetch from the network",
  search: "search",
  switch_mode: "change its mode",
};

/** What somebody asks leave for: `claude wants to run a command`. */
export function wants(agent: string, prompt: Prompt): string {
  return `${agent} wants to ${KINDS[prompt.kind] ?? `use ${prompt.tool}`}`;
}

/** What a rule would allow for the rest of the session. */
export function rule(is: Rule): string {
  if (is.match === "below") {
    const deed = { edit: "edits", read: "reads", delete: "deletions", move: "moves" }[is.kind] ?? is.kind;
    return `Allow ${deed} below ${is.directory} for this session`;
  }
  const what = { execute: "this command", edit: "this change", fetch: "this address", delete: "this deletion" }[is.kind] ?? "this";
  return `Allow exactly ${what} for this session`;
}

/** How something that was asked ended, without the time. */
export function outcome(is: Outcome): string {
  switch (is.is) {
    case "answered":
      return `${is.decision === "allow" ? "allowed" : "denied"} by ${is.by.user}`;
    case "settled":
      return `${is.decision === "allow" ? "allowed" : "denied"} by ${is.rule ? "a rule of this session" : "the session's mode"}`;
    case "withdrawn":
      return "withdrawn by the agent";
    case "lost":
      return "lost: the agent that asked is gone";
    case "expired":
      return "nobody answered in time: denied";
  }
}

/** The same for a question: an answer to one is no leave. */
export function ending(item: Asked | Wondered): string {
  if (!item.outcome) return "";
  if (item.is === "question" && item.outcome.is === "answered") {
    return `${item.outcome.decision === "allow" ? "answered" : "declined"} by ${item.outcome.by.user}`;
  }
  return outcome(item.outcome);
}

/** The fields of a prompt that are shown first, and what is left. */
export function details(prompt: Prompt): { command: string; path: string; where: string; rest: [string, string][]; missing: number } {
  const at = (...names: string[]): string => {
    for (const name of names) {
      // Beside the tool's input, or in it.
      for (const value of [field(prompt.details, name), field(field(prompt.details, "input"), name)]) {
        if (text(value)) return text(value);
        if (Array.isArray(value) && value.length > 0 && value.every((part) => typeof part === "string")) return value.join(" ");
      }
    }
    return "";
  };
  // What was too long for its prompt: they are to know that they do not see it.
  const left = field(prompt.details, "left_out");
  const missing = typeof left === "number" ? left : 0;
  const known = new Set(["left_out", "command", "cmd", "path", "file_path", "filePath", "cwd", "directory", "description", "title"]);
  const rest = Object.entries(prompt.details)
    .filter(([name]) => !known.has(name))
    .map(([name, value]): [string, string] => [name, typeof value === "string" ? value : JSON.stringify(value, null, 2)]);
  return { command: at("command", "cmd"), path: at("path", "file_path", "filePath"), where: at("cwd", "directory"), rest, missing };
}

/** Many as people write it: `12.4 k`. */
export function many(n: number): string {
  if (n < 1000) return String(n);
  if (n < 999_950) return `${(n / 1000).toFixed(n < 99_950 ? 1 : 0).replace(/\.0$/, "")} k`;
  return `${(n / 1e6).toFixed(1).replace(/\.0$/, "")} M`;
}

/** Tokens and money so far, in words; empty while nothing is known. */
export function spent(usage: Usage): string[] {
  const words: string[] = [];
  const tokens = (usage.input_tokens ?? 0) + (usage.output_tokens ?? 0);
  if (tokens > 0) words.push(`${many(tokens)} tokens`);
  if (usage.cost_micros) words.push(`$${(usage.cost_micros / 1e6).toFixed(2)}`);
  return words;
}

