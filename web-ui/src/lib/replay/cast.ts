// Recordings: asciicast of the second version, read as it arrives.

export type Code = "o" | "i" | "r" | "m" | "e";

export interface Event {
  /** Seconds since the beginning. */
  at: number;
  code: Code;
  data: string;
}

export interface Cast {
  cols: number;
  rows: number;
  /** When it began, in milliseconds since 1970. */
  began: number;
  /** Whether a terminal was there; without one, lines end as programs end them. */
  terminal: boolean;
  events: Event[];
  duration: number;
  /** Bytes of output, roughly: characters. */
  printed: number;
  /** Not all of it was read: it is longer than a page can hold. */
  cut: boolean;
}

/** A page holds no more of a recording than this, in characters. */
const MOST = 300e6;
const CODES = new Set(["o", "i", "r", "m", "e"]);

/** Why a file is no recording. */
export class NoCast extends Error {}

/** Reads a recording piece by piece. Lines that are no events, as the last of one that still grows, are passed over. */
export class Reader {
  readonly cast: Cast = { cols: 80, rows: 24, began: 0, terminal: true, events: [], duration: 0, printed: 0, cut: false };
  private rest = "";
  private headed = false;
  private length = 0;

  push(text: string): void {
    this.length += text.length;
    if (this.length > MOST) {
      this.cast.cut = true;
      return;
    }
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop() ?? "";
    for (const line of lines) this.line(line);
  }

  end(): Cast {
    if (this.rest) this.line(this.rest);
    this.rest = "";
    if (!this.headed) throw new NoCast("This recording is empty.");
    return this.cast;
  }

  private line(line: string): void {
    if (!line.trim()) return;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      if (!this.headed) throw new NoCast("This is no recording that can be played.");
      return;
    }
    if (!this.headed) this.head(value);
    else this.event(value);
  }

  private head(value: unknown): void {
    const head = value as { version?: unknown; width?: unknown; height?: unknown; timestamp?: unknown; env?: Record<string, unknown> } | null;
    if (head?.version !== 2) throw new NoCast("This is a recording of another version than the second.");
    this.cast.cols = side(head.width, 80);
    this.cast.rows = side(head.height, 24);
    this.cast.began = typeof head.timestamp === "number" ? head.timestamp * 1000 : 0;
    this.cast.terminal = typeof head.env?.["TERM"] === "string";
    this.headed = true;
  }

  private event(value: unknown): void {
    if (!Array.isArray(value)) return;
    const [at, code, data] = value as unknown[];
    if (typeof at !== "number" || typeof code !== "string" || !CODES.has(code)) return;
    const text = typeof data === "string" ? data : JSON.stringify(data ?? "");
    // Time does not run backwards, whatever the file says.
    this.cast.duration = Math.max(this.cast.duration, at);
    this.cast.events.push({ at: this.cast.duration, code: code as Code, data: text });
    if (code === "o") this.cast.printed += text.length;
  }
}

function side(value: unknown, otherwise: number): number {
  return typeof value === "number" && value >= 1 ? Math.min(1000, Math.floor(value)) : otherwise;
}

/** `90x20`, as a resize has it. */
export function dimensions(data: string): { cols: number; rows: number } | null {
  const found = /^(\d{1,4})x(\d{1,4})$/.exec(data);
  return found ? { cols: side(Number(found[1]), 80), rows: side(Number(found[2]), 24) } : null;
}

export interface Mark {
  at: number;
  kind: "command" | "resize" | "note" | "prompt" | "warning";
  label: string;
}

/** More marks than these tell nobody anything. */
const MOST_MARKS = 2000;

/** What is worth jumping to: what was typed up to Return, resizes, and our own notes. */
export function marks(cast: Cast): Mark[] {
  const all: Mark[] = [];
  let typed = "";
  let since = 0;
  for (const { at, code, data } of cast.events) {
    if (all.length >= MOST_MARKS) break;
    if (code === "r") {
      // A window that is drawn larger has many sizes on the way.
      const last = all.at(-1);
      if (last?.kind === "resize" && at - last.at < 1) all.pop();
      all.push({ at, kind: "resize", label: data.replace("x", " × ") });
    }
    else if (code === "m") all.push({ at, kind: /limit|warn|session ends/i.test(data) ? "warning" : "note", label: data });
    else if (code === "i") {
      if (!typed) since = at;
      // Keys that move the cursor say nothing that can be read.
      // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what is meant
      const text = data.replace(/\u001b(?:\[[0-9;?]*[ -/]*[@-~]|O.|.)/g, "");
      for (const key of text) {
        if (key === "\r" || key === "\n") {
          if (typed.trim()) all.push({ at: since, kind: "command", label: typed.trim() });
          typed = "";
        } else if (key === "\u007f" || key === "\b") typed = typed.slice(0, -1);
        else if (key === "\u0003" || key === "\u0015") typed = "";
        else if (key >= " " && typed.length < 500) typed += key;
      }
    }
  }
  return all;
}

/** How much happened in each of so many equal parts of a recording, from 0 to 1. */
export function density(times: readonly { at: number; weight: number }[], duration: number, parts: number): number[] {
  const sums = new Array<number>(parts).fill(0);
  if (duration <= 0) return sums;
  for (const { at, weight } of times) {
    const part = Math.min(parts - 1, Math.floor((at / duration) * parts));
    sums[part] = (sums[part] ?? 0) + weight;
  }
  // A flood must not make everything else invisible.
  const scaled = sums.map((sum) => Math.log1p(sum));
  const most = Math.max(...scaled);
  return most > 0 ? scaled.map((sum) => sum / most) : sums;
}

export interface Gap {
  from: number;
  to: number;
}

/** The times in which nothing happened for longer than `least` seconds. */
export function gaps(times: readonly number[], least: number): Gap[] {
  const all: Gap[] = [];
  let last = 0;
  for (const at of times) {
    if (at - last > least) all.push({ from: last, to: at });
    last = Math.max(last, at);
  }
  return all;
}
