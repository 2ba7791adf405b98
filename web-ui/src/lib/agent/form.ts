// The form for a question: a JSON Schema of one level, as agents send them, made into fields. What the
// schema says that is not understood becomes a plain line of text, never nothing.

import { field, text } from "./content";

export interface Choice {
  value: string | number | boolean;
  label: string;
}

export interface Field {
  name: string;
  label: string;
  help: string;
  kind: "text" | "long" | "number" | "whole" | "yes" | "one" | "many";
  choices: Choice[];
  required: boolean;
  start: unknown;
  least: number | null;
  most: number | null;
}

/** More fields than these nobody fills in. */
const MOST_FIELDS = 32;

function choices(schema: unknown): Choice[] {
  const values = field(schema, "enum");
  const names = field(schema, "enumNames");
  const fits = (value: unknown): value is Choice["value"] => ["string", "number", "boolean"].includes(typeof value);
  if (Array.isArray(values)) {
    return values.filter(fits).map((value, n) => ({ value, label: (Array.isArray(names) && text(names[n])) || String(value) }));
  }
  const either = field(schema, "oneOf") ?? field(schema, "anyOf");
  if (!Array.isArray(either)) return [];
  return either.flatMap((one) => {
    const value = field(one, "const");
    return fits(value) ? [{ value, label: text(field(one, "title")) || String(value) }] : [];
  });
}

/** The fields of a form. */
export function fields(schema: unknown): Field[] {
  const properties = field(schema, "properties");
  if (typeof properties !== "object" || properties === null) return [];
  const wanted = field(schema, "required");
  const required = new Set(Array.isArray(wanted) ? wanted : []);
  return Object.entries(properties)
    .slice(0, MOST_FIELDS)
    .map(([name, is]) => {
      const type = field(is, "type");
      const many = type === "array" ? choices(field(is, "items")) : [];
      const one = choices(is);
      const number = (key: string): number | null => {
        const value = field(is, key);
        return typeof value === "number" ? value : null;
      };
      let kind: Field["kind"] = "text";
      if (many.length > 0) kind = "many";
      else if (one.length > 0) kind = "one";
      else if (type === "boolean") kind = "yes";
      else if (type === "integer") kind = "whole";
      else if (type === "number") kind = "number";
      else if ((number("maxLength") ?? 0) > 200) kind = "long";
      const start = field(is, "default");
      return {
        name,
        label: text(field(is, "title")) || name,
        help: text(field(is, "description")),
        kind,
        choices: many.length > 0 ? many : one,
        required: required.has(name),
        start: start ?? (kind === "many" ? [] : kind === "yes" ? false : ""),
        least: number("minimum"),
        most: number("maximum"),
      };
    })
    .sort((a, b) => weight(b) - weight(a));
}

/** What must be there comes first, then what is chosen; else the order is the agent's. */
function weight(field: Field): number {
  return (field.required ? 2 : 0) + (field.choices.length > 0 ? 1 : 0);
}

/** What is sent for what was filled in; empty fields that need not be there are left out. */
export function answer(form: Field[], filled: Record<string, unknown>): Record<string, unknown> {
  const given: Record<string, unknown> = {};
  for (const one of form) {
    const value = filled[one.name];
    if (one.kind === "yes") given[one.name] = value === true;
    else if (one.kind === "many") {
      if (Array.isArray(value) && (value.length > 0 || one.required)) given[one.name] = value;
    } else if (one.kind === "number" || one.kind === "whole") {
      if (value !== "" && value != null && Number.isFinite(Number(value))) given[one.name] = Number(value);
    } else if (value !== "" && value != null) given[one.name] = value;
  }
  return given;
}

/** The first field that still has to be filled in. */
export function missing(form: Field[], filled: Record<string, unknown>): Field | null {
  const given = answer(form, filled);
  return form.find((one) => one.required && (!(one.name in given) || (one.kind === "many" && (given[one.name] as unknown[]).length === 0))) ?? null;
}
