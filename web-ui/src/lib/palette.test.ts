import { expect, test } from "vitest";
import { fit, rank } from "./palette";

const found = (letters: string, ...names: string[]): string[] => rank(letters, names.map((name) => ({ name }))).map((one) => one.entry.name);

test("letters fit in their order, with gaps", () => {
  expect(fit("nt", "New terminal")?.at).toEqual([0, 4]);
  expect(fit("NEW T", "New terminal")?.at).toEqual([0, 1, 2, 4]);
  expect(fit("tn", "New terminal")).not.toBe(null);
  expect(fit("xyz", "New terminal")).toBe(null);
  expect(fit("", "anything")).toEqual({ score: 0, at: [] });
});

test("starts of words and letters in a row come first", () => {
  expect(found("re", "Browse", "Recordings", "Health here")).toEqual(["Recordings", "Health here", "Browse"]);
  expect(found("so", "Sign out", "Sort of", "People also")[0]).toBe("Sort of");
  expect(found("ml", "Formal", "My logins")[0]).toBe("My logins");
});

test("without letters everything is there, in its order", () => {
  expect(found("", "b", "a")).toEqual(["b", "a"]);
});

test("what it is also known by is found, after names", () => {
  const entries = [{ name: "Sign out", also: "log off leave" }, { name: "Login times" }];
  expect(rank("log", entries).map((one) => one.entry.name)).toEqual(["Login times", "Sign out"]);
});
