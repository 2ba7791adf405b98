import { expect, test } from "vitest";
import { apply, begin, type Conversation, type Item, open, type Tool } from "./conversation";
import { type Event, type Happened, read } from "./events";
import { about, outcome, result, rule, spent, verb } from "./words";

const ana = { user: "ana", address: "192.0.2.7" };

function happened(events: Event[], from = 1): Happened[] {
  return events.map((event, n) => ({ seq: from + n, epoch: 1, at: 1000 * (from + n), event }));
}

function told(...events: Event[]): Conversation {
  const conversation = begin();
  for (const one of happened(events)) apply(conversation, one);
  return conversation;
}

const says = (text: string, sessionUpdate = "agent_message_chunk"): Event => ({
  type: "update",
  update: { sessionUpdate, content: { type: "text", text } },
});
const calls = (toolCallId: string, more: object, sessionUpdate = "tool_call_update"): Event => ({
  type: "update",
  update: { sessionUpdate, toolCallId, ...more },
});
const kinds = (conversation: Conversation): Item["is"][] => conversation.items.map((item) => item.is);

const prompt: Event = {
  type: "prompt",
  request: "r1",
  tool: "Bash",
  kind: "execute",
  description: "Run the tests",
  details: { command: "make test", cwd: "/src" },
  input_hash: "ab",
  rule: { match: "exact", kind: "execute", input_hash: "ab" },
};

test("what is said in pieces is one text, and what comes between begins another", () => {
  const told1 = told(says("Hel"), says("lo"), says("hmm", "agent_thought_chunk"), says("there"));
  expect(told1.items.map((item) => [item.is, "text" in item ? item.text : ""])).toEqual([
    ["text", "Hello"],
    ["thought", "hmm"],
    ["text", "there"],
  ]);
});

test("an event that was there already changes nothing", () => {
  const conversation = begin();
  const events = happened([says("a"), says("b"), says("c")]);
  for (const one of [...events, ...events, ...events.slice(1)]) apply(conversation, one);
  expect(conversation.items).toMatchObject([{ text: "abc" }]);
  expect(conversation.seq).toBe(3);
});

test("live and in one go give the same, wherever the connection broke", () => {
  const events = happened([
    { type: "user_message", client_msg_id: "m1", content: "hi", by: ana },
    says("Let me "),
    says("look"),
    calls("t", { title: "ls", kind: "execute", rawInput: { command: "ls" } }, "tool_call"),
    prompt,
    { type: "resolved", request: "r1", outcome: { is: "answered", decision: "allow", by: ana } },
    calls("t", { status: "completed", content: [{ type: "content", content: { type: "text", text: "a\nb" } }] }),
    { type: "turn_ended", stop_reason: "end_turn" },
  ]);
  const whole = begin();
  for (const one of events) apply(whole, one);
  for (let broke = 0; broke <= events.length; broke++) {
    const again = begin();
    for (const one of events.slice(0, broke)) apply(again, one);
    // The gateway is asked from the next one, and may begin a little earlier.
    for (const one of events.slice(Math.max(0, broke - 2))) apply(again, one);
    expect(again).toEqual(whole);
  }
});

test("a tool call is one item that changes in place", () => {
  const conversation = told(
    calls("t1", { title: "Edit main.rs", kind: "edit", status: "pending", locations: [{ path: "/src/main.rs", line: 3 }] }, "tool_call"),
    calls("t1", { status: "in_progress" }),
    calls("t1", { status: "completed", content: [{ type: "diff", path: "/src/main.rs", oldText: "a\n", newText: "b\n" }] }),
  );
  expect(kinds(conversation)).toEqual(["tool"]);
  const tool = conversation.items[0] as Tool;
  expect(tool).toMatchObject({ state: "completed", title: "Edit main.rs", places: ["/src/main.rs:3"], at: 1000, until: 3000 });
  expect(tool.changes).toEqual([{ path: "/src/main.rs", before: "a\n", after: "b\n" }]);
  expect([verb(tool), about(tool)]).toEqual(["Edited", "/src/main.rs"]);
});

test("an item that changes is another object, one that does not is the same", () => {
  const conversation = told(calls("t1", { title: "a" }, "tool_call"), calls("t2", { title: "b" }, "tool_call"));
  const [first, second] = conversation.items;
  apply(conversation, { seq: 3, epoch: 1, at: 0, event: calls("t2", { status: "completed" }) });
  expect(conversation.items[0]).toBe(first);
  expect(conversation.items[1]).not.toBe(second);
});

test("what is asked waits until somebody, a rule or the agent settles it, and once", () => {
  const conversation = told(prompt, { type: "question", request: "q1", question: "Which?", schema: {}, input_hash: "cd" });
  expect(open(conversation).map((item) => item.key)).toEqual(["askedr1", "askedq1"]);
  const settled = (request: string, outcome: Extract<Event, { type: "resolved" }>["outcome"], seq: number): void =>
    apply(conversation, { seq, epoch: 1, at: seq, event: { type: "resolved", request, outcome } });
  settled("r1", { is: "answered", decision: "allow", by: ana }, 3);
  settled("r1", { is: "answered", decision: "deny", by: { user: "bob" } }, 4);
  settled("q1", { is: "lost" }, 5);
  settled("never asked", { is: "lost" }, 6);
  expect(open(conversation)).toEqual([]);
  expect(conversation.items.map((item) => ("outcome" in item && item.outcome ? outcome(item.outcome) : ""))).toEqual([
    "allowed by ana",
    "lost: the agent that asked is gone",
  ]);
});

test("a message waits in the queue, may be changed there, and then stands in the conversation", () => {
  const queued = (id: string, content: string): Event => ({ type: "message", client_msg_id: id, state: "queued", content });
  const conversation = told(queued("a", "one"), queued("b", "two"), queued("a", "one!"), { type: "message", client_msg_id: "b", state: "cancelled" });
  expect(conversation.queue).toEqual([{ id: "a", content: "one!" }]);
  apply(conversation, { seq: 5, epoch: 1, at: 5, event: { type: "user_message", client_msg_id: "a", content: "one!", by: ana } });
  apply(conversation, { seq: 6, epoch: 1, at: 6, event: { type: "message", client_msg_id: "a", state: "sent" } });
  expect(conversation.queue).toEqual([]);
  expect(conversation.items).toMatchObject([{ is: "user", content: "one!", by: ana }]);
});

test("a turn that is cut leaves nothing running", () => {
  const conversation = told(
    { type: "status", status: "running" },
    calls("t1", { title: "sleep", kind: "execute", status: "in_progress" }, "tool_call"),
    { type: "turn_cut", why: "interrupted" },
  );
  expect(conversation.items).toMatchObject([{ is: "tool", state: "cut" }, { is: "note", text: "Interrupted.", grave: false }]);
  expect(result(conversation.items[0] as Tool)).toBe("cut off");
  expect(conversation.turn).toBe(0);
});

test("what a person should know is said", () => {
  const conversation = told({ type: "notice", code: "interrupt_ignored", message: "the agent goes on; end the session" });
  expect(conversation.items).toMatchObject([{ is: "note", text: "The agent goes on; end the session.", grave: true }]);
});

test("the same tool id in another start of the agent is another call", () => {
  const conversation = begin();
  apply(conversation, { seq: 1, epoch: 1, at: 1, event: calls("0", { title: "a" }, "tool_call") });
  apply(conversation, { seq: 2, epoch: 2, at: 2, event: calls("0", { title: "b" }, "tool_call") });
  expect(conversation.items).toMatchObject([{ title: "a" }, { title: "b" }]);
});

test("a start is one item, and says what failed", () => {
  const conversation = told(
    { type: "step", step: "directory", state: "begun" },
    { type: "step", step: "directory", state: "done" },
    { type: "step", step: "program", state: "failed", message: "claude is not on this machine" },
    { type: "ended", reason: "failed", output_bytes: 0, message: "claude is not on this machine" },
  );
  expect(conversation.items).toMatchObject([{ is: "start", steps: [{ step: "directory", state: "done" }, { step: "program", state: "failed" }] }]);
  expect(conversation.ended).toEqual({ reason: "failed", message: "claude is not on this machine" });
});

test("what an agent sends may be anything", () => {
  const strange = [null, 7, "x", [], {}, { sessionUpdate: 3 }, { sessionUpdate: "tool_call" }, { sessionUpdate: "plan", entries: "no" }];
  const events = strange.map((update): Event => ({ type: "update", update: (update ?? {}) as Record<string, unknown> }));
  expect(() => told(...events, calls("t", { content: [null, 1, { type: "diff" }], locations: {}, rawInput: [] }))).not.toThrow();
  expect(read({ type: "event", seq: "1", event: {} })).toBe(null);
  expect(read({ type: "event", seq: 1, at: "2026-11-22T10:00:00Z", event: { type: "status", status: "running" } })).toMatchObject({
    at: Date.parse("2026-11-22T10:00:00Z"),
  });
});

test("the meter keeps what it knows", () => {
  const conversation = told(
    { type: "usage", input_tokens: 12_000, output_tokens: 400 },
    { type: "update", update: { sessionUpdate: "usage_update", used: 53_000, size: 200_000, cost: { amount: 0.42, currency: "USD" } } },
    { type: "usage", output_tokens: 900 },
  );
  expect(conversation.usage).toEqual({ input_tokens: 12_000, output_tokens: 900, context_used: 53_000, context_size: 200_000, cost_micros: 420_000 });
  expect(spent(conversation.usage)).toEqual(["12.9 k tokens", "$0.42"]);
});

test("a rule is said in words", () => {
  expect(rule({ match: "exact", kind: "execute", input_hash: "x" })).toBe("Allow exactly this command for this session");
  expect(rule({ match: "below", kind: "edit", directory: "/src" })).toBe("Allow edits below /src for this session");
});

test("10 000 events take no time worth speaking of", () => {
  const events: Event[] = [];
  for (let n = 0; n < 2000; n++) {
    events.push(says("word "), says("word "), calls(`t${n}`, { title: "x", rawInput: { command: "ls" } }, "tool_call"));
    events.push(calls(`t${n}`, { status: "completed" }), says("so ", "agent_thought_chunk"));
  }
  const begun = performance.now();
  const conversation = told(...events);
  expect(performance.now() - begun).toBeLessThan(10_000);
  expect(conversation.items).toHaveLength(6000);
});
