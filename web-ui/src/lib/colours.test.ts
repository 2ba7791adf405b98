import { expect, test } from "vitest";
import { colour, THEME } from "./colours";

test("colours are what terminals mean by them, and nothing else is one", () => {
  expect(colour("1")).toBe(THEME.red);
  expect(colour("15")).toBe(THEME.brightWhite);
  expect(colour("16")).toBe("rgb(0 0 0)");
  expect(colour("196")).toBe("rgb(255 0 0)");
  expect(colour("231")).toBe("rgb(255 255 255)");
  expect(colour("244")).toBe("rgb(128 128 128)");
  expect(colour("#12ab9f")).toBe("#12ab9f");
  for (const none of [undefined, "256", "-1", "red", "#12ab9f;x", "url(x)"]) expect(colour(none)).toBe(null);
});
