// Diffs: reads unified ones, and makes them of two texts. What is drawn is the same for both.

export interface Line {
  is: "same" | "gone" | "new" | "gap";
  text: string;
  /** Its number before and after; 0 where it has none. */
  before: number;
  after: number;
}

export interface FileDiff {
  path: string;
  added: number;
  removed: number;
  lines: Line[];
  /** Said of it instead of lines: renamed, binary, … */
  note: string;
}

/** So many lines around a change are shown. */
const AROUND = 3;
/** Beyond so many different lines two texts are shown one after the other. */
const MOST_EDITS = 400;

const clean = (path: string): string => path.replace(/^"|"$/g, "").replace(/^[ab]\//, "");

/** The files of a unified diff, git's or plain. A line that is none of it is passed over. */
export function parse(patch: string): FileDiff[] {
  const files: FileDiff[] = [];
  let file: FileDiff | null = null;
  let before = 0;
  let after = 0;
  let leftBefore = 0;
  let leftAfter = 0;
  const next = (path: string): FileDiff => {
    const made: FileDiff = { path, added: 0, removed: 0, lines: [], note: "" };
    files.push(made);
    return made;
  };
  for (const line of patch.split("\n")) {
    if (leftBefore > 0 || leftAfter > 0) {
      const text = line.slice(1);
      if (line.startsWith("+") && leftAfter > 0) {
        file?.lines.push({ is: "new", text, before: 0, after: after++ });
        if (file) file.added += 1;
        leftAfter -= 1;
        continue;
      }
      if (line.startsWith("-") && leftBefore > 0) {
        file?.lines.push({ is: "gone", text, before: before++, after: 0 });
        if (file) file.removed += 1;
        leftBefore -= 1;
        continue;
      }
      if (line.startsWith(" ") || line === "") {
        file?.lines.push({ is: "same", text, before: before++, after: after++ });
        leftBefore -= 1;
        leftAfter -= 1;
        continue;
      }
      if (line.startsWith("\\")) continue;
      leftBefore = 0;
      leftAfter = 0;
    }
    const hunk = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/.exec(line);
    if (hunk) {
      file ??= next("");
      before = Number(hunk[1]);
      after = Number(hunk[3]);
      leftBefore = Number(hunk[2] ?? 1);
      leftAfter = Number(hunk[4] ?? 1);
      if (file.lines.length > 0 || before > 1) file.lines.push({ is: "gap", text: line.replace(/^@@.*?@@ ?/, ""), before, after });
      continue;
    }
    if (line.startsWith("diff --git ")) {
      file = next(clean(/ (?:"?b\/)(.*?)"?$/.exec(line)?.[1] ?? ""));
    } else if (line.startsWith("--- ")) {
      const path = clean(line.slice(4).split("\t")[0] ?? "");
      if (!file || file.lines.length > 0) file = next(path === "/dev/null" ? "" : path);
      else if (!file.path && path !== "/dev/null") file.path = path;
    } else if (line.startsWith("+++ ")) {
      const path = clean(line.slice(4).split("\t")[0] ?? "");
      if (file && path !== "/dev/null") file.path = path;
    } else if (file && line.startsWith("new file")) file.note = "new";
    else if (file && line.startsWith("deleted file")) file.note = "deleted";
    else if (file && line.startsWith("rename from ")) file.note = `was ${line.slice(12)}`;
    else if (file && line.startsWith("Binary files ")) file.note = "binary";
  }
  return files;
}

/** What became of one text, as a diff. */
export function between(path: string, was: string | null, is: string): FileDiff {
  const a = was === null || was === "" ? [] : was.replace(/\n$/, "").split("\n");
  const b = is === "" ? [] : is.replace(/\n$/, "").split("\n");
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;

  const all: Line[] = [];
  let before = 1;
  let after = 1;
  const same = (text: string): number => all.push({ is: "same", text, before: before++, after: after++ });
  for (const text of a.slice(0, head)) same(text);
  for (const edit of edits(a.slice(head, a.length - tail), b.slice(head, b.length - tail))) {
    if (edit.is === "same") same(edit.text);
    else if (edit.is === "gone") all.push({ ...edit, before: before++, after: 0 });
    else all.push({ ...edit, before: 0, after: after++ });
  }
  for (const text of a.slice(a.length - tail)) same(text);

  return {
    path,
    added: all.filter((line) => line.is === "new").length,
    removed: all.filter((line) => line.is === "gone").length,
    lines: fold(all),
    note: was === null ? "new" : "",
  };
}

type Edit = { is: "same" | "gone" | "new"; text: string };

/** The fewest edits that make one list of lines of another (Myers), as long as they are not too many. */
function edits(a: string[], b: string[]): Edit[] {
  const most = a.length + b.length;
  const whole = (): Edit[] => [...a.map((text): Edit => ({ is: "gone", text })), ...b.map((text): Edit => ({ is: "new", text }))];
  if (a.length === 0 || b.length === 0) return whole();
  // `far[k]`: how far into `a` one comes on the diagonal k with d edits.
  const far = new Map<number, number>([[1, 0]]);
  const trail: Map<number, number>[] = [];
  const at = (m: Map<number, number>, k: number): number => m.get(k) ?? 0;
  search: for (let d = 0; ; d++) {
    if (d > Math.min(most, MOST_EDITS) || (d > 100 && d * most > 4e6)) return whole();
    trail.push(new Map(far));
    for (let k = -d; k <= d; k += 2) {
      let x = k === -d || (k !== d && at(far, k - 1) < at(far, k + 1)) ? at(far, k + 1) : at(far, k - 1) + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      far.set(k, x);
      if (x >= a.length && x - k >= b.length) break search;
    }
  }
  const back: Edit[] = [];
  let x = a.length;
  let y = b.length;
  for (let d = trail.length - 1; d >= 0; d--) {
    const was = trail[d] as Map<number, number>;
    const k = x - y;
    const from = k === -d || (k !== d && at(was, k - 1) < at(was, k + 1)) ? k + 1 : k - 1;
    const fromX = d === 0 ? 0 : at(was, from);
    const fromY = d === 0 ? 0 : fromX - from;
    while (x > fromX && y > fromY) {
      x -= 1;
      y -= 1;
      back.push({ is: "same", text: a[x] ?? "" });
    }
    if (d === 0) break;
    if (x > fromX) back.push({ is: "gone", text: a[--x] ?? "" });
    else back.push({ is: "new", text: b[--y] ?? "" });
  }
  return back.reverse();
}

/** Leaves out what is far from any change. */
function fold(all: Line[]): Line[] {
  const near = new Uint8Array(all.length);
  all.forEach((line, n) => {
    if (line.is !== "same") near.fill(1, Math.max(0, n - AROUND), Math.min(all.length, n + AROUND + 1));
  });
  const shown: Line[] = [];
  all.forEach((line, n) => {
    if (near[n]) shown.push(line);
    else if (n + 1 < all.length && near[n + 1]) {
      const next = all[n + 1] as Line;
      shown.push({ is: "gap", text: "", before: next.before, after: next.after });
    }
  });
  return shown;
}
