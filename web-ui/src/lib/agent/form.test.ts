import { expect, test } from "vitest";
import { answer, fields, missing } from "./form";

const schema = {
  type: "object",
  required: ["which"],
  properties: {
    which: { type: "string", title: "Which database?", oneOf: [{ const: "pg", title: "PostgreSQL" }, { const: "lite" }] },
    also: { type: "array", items: { type: "string", enum: ["a", "b"] } },
    note: { type: "string", maxLength: 4000, description: "Anything else" },
    sure: { type: "boolean" },
    port: { type: "integer", minimum: 1, default: 5432 },
  },
};

test("a schema becomes fields", () => {
  expect(fields(schema).map((field) => [field.name, field.kind, field.label, field.required])).toEqual([
    ["which", "one", "Which database?", true],
    ["also", "many", "also", false],
    ["note", "long", "note", false],
    ["sure", "yes", "sure", false],
    ["port", "whole", "port", false],
  ]);
  expect(fields(schema)[0]?.choices).toEqual([{ value: "pg", label: "PostgreSQL" }, { value: "lite", label: "lite" }]);
});

test("what is filled in becomes an answer, and what is missing is named", () => {
  const form = fields(schema);
  const empty = Object.fromEntries(form.map((field) => [field.name, field.start]));
  expect(missing(form, empty)?.name).toBe("which");
  const filled = { ...empty, which: "pg", also: ["b"], note: "", port: "5433" };
  expect(missing(form, filled)).toBe(null);
  expect(answer(form, filled)).toEqual({ which: "pg", also: ["b"], sure: false, port: 5433 });
});

test("a schema that is none has no fields, one that is strange has lines of text", () => {
  for (const none of [null, 3, "x", {}, { properties: null }]) expect(fields(none)).toEqual([]);
  expect(fields({ properties: { a: null, b: { type: "object" }, c: { enum: [{}, []] } } }).map((field) => field.kind)).toEqual(["text", "text", "text"]);
});
