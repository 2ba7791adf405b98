import { expect, test } from "vitest";
import { unpadded } from "./snapshot";

test("blanks that end a row are left out", () => {
  expect(unpadded("a b   \r\n  c \r\n$ ")).toBe("a b\r\n  c\r\n$ ");
});

test("blanks that can be seen stay", () => {
  expect(unpadded("\x1b[44mtitle   \r\n\x1b[0mrest   \r\n")).toBe("\x1b[44mtitle   \r\n\x1b[0mrest\r\n");
  expect(unpadded("\x1b[1;7m  \x1b[27;0m  \r\n")).toBe("\x1b[1;7m  \x1b[27;0m\r\n");
  expect(unpadded("\x1b[48;5;0mx  \r\n")).toBe("\x1b[48;5;0mx  \r\n");
});

test("a foreground is no background", () => {
  expect(unpadded("\x1b[38;5;44mx  \r\n")).toBe("\x1b[38;5;44mx\r\n");
  expect(unpadded("\x1b[38;2;7;44;48mx  \r\n")).toBe("\x1b[38;2;7;44;48mx\r\n");
});
