import { expect, test } from "vitest";
import { density, dimensions, type Event, gaps, marks, NoCast, Reader } from "./cast";
import { Playhead } from "./playhead.svelte";
import { Text } from "./search";
import { asked, stamp } from "./times";

const HEAD = '{"version":2,"width":100,"height":30,"timestamp":1795339623,"env":{"TERM":"xterm-256color"}}\n';

function read(text: string, piece = 7): ReturnType<Reader["end"]> {
  const reader = new Reader();
  for (let n = 0; n < text.length; n += piece) reader.push(text.slice(n, n + piece));
  return reader.end();
}

const at = (time: number, code: Event["code"], data: string): Event => ({ at: time, code, data });

test("a recording is read however it arrives", () => {
  const text = `${HEAD}[0.5,"o","hi\\r\\n"]\n[1.25,"r","90x20"]\n[2,"m","session ends: shutdown"]\n[2.5,"o","by`;
  for (const piece of [1, 7, 1000]) {
    const cast = read(text, piece);
    expect([cast.cols, cast.rows, cast.began, cast.duration, cast.terminal]).toEqual([100, 30, 1_795_339_623_000, 2, true]);
    // The last line is still being written.
    expect(cast.events.map((event) => event.code)).toEqual(["o", "r", "m"]);
  }
});

test("what is no recording says so, and a strange line is passed over", () => {
  expect(() => read("")).toThrow(NoCast);
  expect(() => read("hello\n")).toThrow(NoCast);
  expect(() => read('{"version":3}\n')).toThrow(NoCast);
  expect(read(`${HEAD}7\n["x"]\n[1,"?","a"]\n[2,"o","a"]\n[1,"o","b"]\n`).events).toEqual([at(2, "o", "a"), at(2, "o", "b")]);
  expect(dimensions("90x20")).toEqual({ cols: 90, rows: 20 });
  expect(dimensions("x")).toBe(null);
});

test("what was typed up to Return is a mark, as it was meant", () => {
  const cast = read(HEAD);
  cast.events = [at(1, "i", "l"), at(1.2, "i", "a\u007fs\u001b[D\r"), at(3, "i", "\r"), at(4, "i", "oops\u0003make\n"), at(5, "r", "90x20"), at(6, "m", "session ends: shutdown")];
  expect(marks(cast)).toEqual([
    { at: 1, kind: "command", label: "ls" },
    { at: 4, kind: "command", label: "make" },
    { at: 5, kind: "resize", label: "90 × 20" },
    { at: 6, kind: "warning", label: "session ends: shutdown" },
  ]);
});

test("a search finds what was seen, however it was printed", async () => {
  const text = await Text.of(
    [at(1, "o", "\u001b[31mro"), at(2, "o", "ot\u001b[0m@box:~# "), at(3, "i", "never"), at(4, "o", "m\u001b"), at(5, "o", "[1mak"), at(6, "o", "e\r\nError: no\u001b]0;a title\u0007 rule\r\n")],
    async () => {},
  );
  expect(text.find("root@box")).toEqual([{ at: 2, line: "root@box:~# make", from: 0, to: 8 }]);
  expect(text.find("make").map((hit) => hit.at)).toEqual([6]);
  expect(text.find("no rule").map((hit) => hit.line)).toEqual(["Error: no rule"]);
  expect(text.find("error")).toHaveLength(1);
  expect(text.find("ERROR")).toHaveLength(0);
  expect(text.find("never")).toHaveLength(0);
  expect(text.find("title")).toHaveLength(0);
  expect(text.find("")).toEqual([]);
});

test("density is of equal parts, and gaps are where nothing was", () => {
  const times = [0, 0.1, 5, 9.9];
  expect(density(times.map((time) => ({ at: time, weight: 1 })), 10, 2)).toEqual([1, 1]);
  expect(density([], 0, 3)).toEqual([0, 0, 0]);
  expect(gaps(times, 2)).toEqual([
    { from: 0.1, to: 5 },
    { from: 5, to: 9.9 },
  ]);
});

test("a replay skips what is idle, if it is to, and stops at its end", () => {
  const head = new Playhead(100, [{ from: 10, to: 60 }], 9);
  head.pass(1);
  expect(head.at).toBe(10);
  head.pass(1);
  expect(head.at).toBe(59.6);
  head.pass(1);
  expect(head.at).toBeCloseTo(60.6);
  head.seek(20);
  head.skip = false;
  head.speed = 4;
  head.pass(1);
  expect(head.at).toBe(24);
  head.seek(1000);
  expect(head.at).toBe(100);
  head.pass(1);
  expect(head.playing).toBe(false);
});

test("moments are written as players write them, and read back", () => {
  for (const [seconds, text] of [[0, "0:00"], [59.9, "0:59"], [187, "3:07"], [3729, "1:02:09"]] as const) expect(stamp(seconds)).toBe(text);
  for (const [text, seconds] of [["187.5", 187.5], ["3:07", 187], ["1:02:09", 3729], ["", null], ["soon", null], ["-3", null], [null, null]] as const) {
    expect(asked(text)).toBe(seconds);
  }
});
