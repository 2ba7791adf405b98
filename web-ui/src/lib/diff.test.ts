import { expect, test } from "vitest";
import { between, type FileDiff, parse } from "./diff";

const drawn = (file: FileDiff | undefined): string[] =>
  (file?.lines ?? []).map((line) => ({ same: " ", gone: "-", new: "+", gap: "@" })[line.is] + line.text);

test("a diff of git's is read file by file", () => {
  const patch = [
    "diff --git a/src/main.rs b/src/main.rs",
    "index 1..2 100644",
    "--- a/src/main.rs",
    "+++ b/src/main.rs",
    "@@ -10,3 +10,4 @@ fn main() {",
    " one",
    "-two",
    "+2",
    "+3",
    " four",
    "diff --git a/new.txt b/new.txt",
    "new file mode 100644",
    "--- /dev/null",
    "+++ b/new.txt",
    "@@ -0,0 +1 @@",
    "+hello",
    "\\ No newline at end of file",
    "",
  ].join("\n");
  const files = parse(patch);
  expect(files.map((file) => [file.path, file.added, file.removed, file.note])).toEqual([
    ["src/main.rs", 2, 1, ""],
    ["new.txt", 1, 0, "new"],
  ]);
  expect(drawn(files[0])).toEqual(["@fn main() {", " one", "-two", "+2", "+3", " four"]);
  expect(files[0]?.lines.map((line) => [line.before, line.after])).toEqual([[10, 10], [10, 10], [11, 0], [0, 11], [0, 12], [12, 13]]);
});

test("what a changed line looks like does not make it a header", () => {
  const files = parse("--- a\n+++ b\n@@ -1,2 +1,2 @@\n--- not a header\n+++ nor this\n same\n");
  expect(files).toHaveLength(1);
  expect(drawn(files[0])).toEqual(["--- not a header", "+++ nor this", " same"]);
});

test("what is no diff is none", () => {
  expect(parse("")).toEqual([]);
  expect(parse("hello\nworld")).toEqual([]);
});

test("two texts become the fewest changes, with what is around them", () => {
  const lines = Array.from({ length: 20 }, (_, n) => `line ${n + 1}`);
  const file = between("a.txt", `${lines.join("\n")}\n`, `${lines.with(9, "other").join("\n")}\n`);
  expect([file.added, file.removed]).toEqual([1, 1]);
  expect(drawn(file)).toEqual(["@", " line 7", " line 8", " line 9", "-line 10", "+other", " line 11", " line 12", " line 13"]);
});

test("a diff leads from the one text to the other, whatever they are", () => {
  let seed = 7;
  const random = (below: number): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return seed % below;
  };
  for (let round = 0; round < 300; round++) {
    const text = (): string[] => Array.from({ length: random(12) + 1 }, () => "abc"[random(3)] ?? "");
    const [a, b] = [text(), text()];
    const lines = between("x", a.join("\n"), b.join("\n")).lines.filter((line) => line.is !== "gap");
    // What is far from a change is left out, so each shown line is looked up by its number.
    for (const line of lines) {
      if (line.before) expect(a[line.before - 1]).toBe(line.text);
      if (line.after) expect(b[line.after - 1]).toBe(line.text);
    }
    const kept = a.length - lines.filter((line) => line.is === "gone").length;
    expect(kept).toBe(b.length - lines.filter((line) => line.is === "new").length);
  }
});

test("a new file is all new, and texts that have little in common do not take for ever", () => {
  expect(drawn(between("n", null, "a\nb\n"))).toEqual(["+a", "+b"]);
  const long = (word: string): string => Array.from({ length: 20_000 }, (_, n) => `${word} ${n}`).join("\n");
  const file = between("big", long("a"), long("b"));
  expect([file.added, file.removed]).toEqual([20_000, 20_000]);
});
