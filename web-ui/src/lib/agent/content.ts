// Reads what agents put into their updates. All of it is a stranger's: every field may be missing, of
// another kind, or hostile, and nothing here is taken for more than text.

/** A change of a file, as an agent shows it. */
export interface Change {
  path: string;
  before: string | null;
  after: string;
}

export interface Step {
  text: string;
  state: "pending" | "in_progress" | "completed";
}

/** A field of an object, if it is one. */
export function field(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
}

export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

/** The text of a content block; what is no text is named. */
export function block(content: unknown): string {
  switch (field(content, "type")) {
    case "text":
      return text(field(content, "text"));
    case "resource_link":
      return text(field(content, "uri")) || text(field(content, "name"));
    case "resource":
      return text(field(field(content, "resource"), "text")) || text(field(field(content, "resource"), "uri"));
    case "image":
      return "[an image]";
    case "audio":
      return "[a sound]";
    default:
      return "";
  }
}

/** What a tool call gave: its text. */
export function output(content: unknown): string {
  return list(content)
    .filter((one) => field(one, "type") === "content")
    .map((one) => block(field(one, "content")))
    .filter(Boolean)
    .join("\n");
}

/** The files it changes. */
export function changes(content: unknown): Change[] {
  return list(content)
    .filter((one) => field(one, "type") === "diff")
    .map((one) => {
      const before = field(one, "oldText");
      return { path: text(field(one, "path")), before: typeof before === "string" ? before : null, after: text(field(one, "newText")) };
    });
}

/** The paths it works on. */
export function places(locations: unknown): string[] {
  return list(locations).flatMap((one) => {
    const path = text(field(one, "path"));
    const line = field(one, "line");
    return path ? [typeof line === "number" ? `${path}:${line}` : path] : [];
  });
}

/** The steps of a plan. */
export function plan(entries: unknown): Step[] {
  return list(entries).map((one) => {
    const state = field(one, "status");
    return {
      text: text(field(one, "content")),
      state: state === "completed" || state === "in_progress" ? state : "pending",
    };
  });
}

const OBJECTS = ["command", "cmd", "pattern", "query", "url", "file_path", "path", "filePath", "description"];

/** The one thing in a tool's input that says what it is about: its command, path or address. */
export function object(input: unknown): string {
  for (const name of OBJECTS) {
    const value = field(input, name);
    if (typeof value === "string" && value) return value;
    if (Array.isArray(value) && value.every((part) => typeof part === "string") && value.length > 0) return value.join(" ");
  }
  return "";
}
