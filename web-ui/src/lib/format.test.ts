import { expect, test } from "vitest";
import { ago, count, short, size, span } from "./format";

test("spans are told in the two largest units that matter", () => {
  const rows: [number, string][] = [
    [-3, "0 s"],
    [0.4, "0 s"],
    [59, "59 s"],
    [61, "1 min 1 s"],
    [600, "10 min"],
    [2465, "41 min"],
    [5400, "1 h 30 min"],
    [3600, "1 h"],
    [604_800, "7 d"],
  ];
  for (const [seconds, told] of rows) expect(span(seconds)).toBe(told);
});

test("sizes are powers of 1024, as the limits are", () => {
  const rows: [number, string][] = [
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1 KB"],
    [1536, "1.5 KB"],
    [100 * 1024 * 1024, "100 MB"],
    [5 * 1024 ** 4, "5120 GB"],
  ];
  for (const [bytes, told] of rows) expect(size(bytes)).toBe(told);
});

test("moments are told by how long ago they were", () => {
  const now = Date.parse("2026-11-22T10:00:00Z");
  expect(ago("2026-11-22T09:59:58Z", now)).toBe("just now");
  expect(ago("2026-11-22T09:30:00Z", now)).toBe("30 min ago");
});

test("ids are shown by their ends", () => {
  expect(short("01932b5e-7c1a-7f00-8000-00003f2a91c0")).toBe("3f2a91c0");
});

test("one of something is one", () => {
  expect(count(1, "file")).toBe("1 file");
  expect(count(0, "file")).toBe("0 files");
  expect(count(1204, "entry", "entries")).toBe("1,204 entries");
});
