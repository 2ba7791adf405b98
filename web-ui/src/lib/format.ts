// Times and sizes in the words of the rest of Sojourn.

const UNITS: readonly [number, string][] = [
  [86_400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/** A span of time, to two units at most: `41 min`, `1 h 30 min`, `7 d`. */
export function span(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const at = UNITS.findIndex(([size]) => whole >= size);
  if (at < 0) return "0 s";
  const [size, name] = UNITS[at]!;
  const first = `${Math.floor(whole / size)} ${name}`;
  const next = UNITS[at + 1];
  const rest = next ? Math.floor((whole % size) / next[0]) : 0;
  // Beyond an hour nobody counts seconds, and minutes stand alone when they are many.
  const shown = next && rest > 0 && !(name === "min" && whole >= 600);
  return shown ? `${first} ${rest} ${next[1]}` : first;
}

/** A size, as the limits have it: powers of 1024. */
export function size(bytes: number): string {
  let value = bytes;
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (value < 1024 || unit === "GB") {
      const digits = unit === "B" || value >= 100 ? 0 : 1;
      return `${value.toFixed(digits).replace(/\.0$/, "")} ${unit}`;
    }
    value /= 1024;
  }
  return `${bytes} B`;
}

/** How long ago something was. */
export function ago(then: string | number | Date, now: number): string {
  const seconds = (now - new Date(then).getTime()) / 1000;
  // One unit: nobody counts how long ago in two.
  const [size] = UNITS.find(([size]) => seconds >= size) ?? [1];
  return seconds < 5 ? "just now" : `${span(Math.floor(seconds / size) * size)} ago`;
}

/** A moment as a clock and a calendar show it, short where it is today. */
export function moment(then: string, now: number): string {
  const date = new Date(then);
  const today = new Date(now).toDateString() === date.toDateString();
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  return today ? time : `${date.toLocaleDateString([], { month: "short", day: "numeric" })} ${time}`;
}

/** The end of an id, as tables show it. */
export function short(id: string): string {
  return id.replaceAll("-", "").slice(-8);
}

/** So many of them: `1 file`, `2 files`, `1,204 entries`. */
export function count(n: number, one: string, more = `${one}s`): string {
  return `${n.toLocaleString("en")} ${n === 1 ? one : more}`;
}
