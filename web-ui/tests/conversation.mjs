// A conversation for pictures: an agent in the middle of its work, as its socket tells it. Tests of
// conversations have a real agent; here it is only to be looked at.

const ID = "01a2041c-7c1a-7f00-8000-00001a3ae0f4";
const CWD = "/home/ana/src/orders";

const REPORT = `@@ -18,7 +18,9 @@ pub async fn year(store: &Store, year: i32) -> Result<Vec<Month>> {
     rows.into_iter().map(Month::try_from).collect()
 }
 
-fn counts(status: &str) -> bool {
-    status != "canceled"
+/// Whether an order of this status is part of a month's total.
+fn counts(status: Status) -> bool {
+    !matches!(status, Status::Cancelled | Status::Refunded)
 }
`;
const PATCH = `diff --git a/src/report.rs b/src/report.rs
--- a/src/report.rs
+++ b/src/report.rs
${REPORT}diff --git a/migrations/0008_status.sql b/migrations/0008_status.sql
new file mode 100644
--- /dev/null
+++ b/migrations/0008_status.sql
@@ -0,0 +1,5 @@
+CREATE TYPE order_status AS ENUM ('open', 'paid', 'shipped', 'cancelled', 'refunded');
+
+ALTER TABLE orders
+    ALTER COLUMN status TYPE order_status USING status::order_status;
+
`;
const BEFORE = `    rows.into_iter().map(Month::try_from).collect()
}

fn counts(status: &str) -> bool {
    status != "canceled"
}
`;
const AFTER = `    rows.into_iter().map(Month::try_from).collect()
}

/// Whether an order of this status is part of a month's total.
fn counts(status: Status) -> bool {
    !matches!(status, Status::Cancelled | Status::Refunded)
}
`;

const ana = { user: "ana", address: "192.0.2.7" };
const says = (text, kind = "agent_message_chunk") => ({ type: "update", update: { sessionUpdate: kind, content: { type: "text", text } } });
const calls = (toolCallId, more, kind = "tool_call") => ({ type: "update", update: { sessionUpdate: kind, toolCallId, ...more } });
const shows = (text) => [{ type: "content", content: { type: "text", text } }];
const plan = (...states) => ({
  type: "update",
  update: {
    sessionUpdate: "plan",
    entries: ["Find where cancelled orders get into the report", "Fix the query", "Add a test for cancelled orders", "Run the whole test suite"].map((content, n) => ({ content, status: states[n], priority: "medium" })),
  },
});
const PROMPT = {
  request_id: "01a2041c-0000-7f00-8000-000000000001",
  tool: "Bash",
  kind: "execute",
  description: "Apply the migration to the development database",
  details: { command: "sqlx migrate run --database-url postgres://orders@localhost/orders_dev", cwd: CWD },
  input_hash: "ab",
  rule: { match: "exact", kind: "execute", input_hash: "ab" },
};

const EVENTS = [
  ...["directory", "program", "initialize", "conversation"].map((step) => ({ type: "step", step, state: "done" })),
  { type: "started", agent: "claude 2.4.1", recovery: { agent_session_id: "a", cwd: CWD, can_resume: true } },
  { type: "user_message", client_msg_id: "m1", content: "The yearly report counts cancelled orders. Find out why, mend it, and add a test.", by: ana },
  says("A status that is compared as text: I would look at how it is spelled where it is written.", "agent_thought_chunk"),
  says("I will look at how the report is made, and where an order's status comes from."),
  plan("in_progress", "pending", "pending", "pending"),
  calls("t1", { title: "Search for status", kind: "search", status: "completed", rawInput: { pattern: "cancell?ed" }, content: shows("src/report.rs:22: status != \"canceled\"\nsrc/api/cancel.rs:41: status: \"cancelled\"\nsrc/import.rs:88: \"cancelled\" => …") }),
  says("\n\nThe report leaves out `canceled`, with one *l*; everything else writes `cancelled`. So no cancelled order was ever left out:\n\n| month | counted | right |\n| --- | ---: | ---: |\n| September | 1 204 | 1 187 |\n| October | 1 391 | 1 362 |\n\nA status should not be a text at all. I make it a type, in the program and in the database."),
  plan("completed", "in_progress", "pending", "pending"),
  calls("t2", { title: "Edit report.rs", kind: "edit", status: "completed", rawInput: { file_path: `${CWD}/src/report.rs` }, content: [{ type: "diff", path: `${CWD}/src/report.rs`, oldText: BEFORE, newText: AFTER }] }),
  calls("t3", { title: "cargo check", kind: "execute", status: "completed", rawInput: { command: "cargo check" }, content: shows("    Checking orders v0.9.2\n    Finished `dev` profile in 2.31s") }),
  { type: "usage", input_tokens: 48_210, output_tokens: 3_990, context_used: 52_200, context_size: 200_000, cost_micros: 410_000 },
  { type: "diff", files: ["src/report.rs", "migrations/0008_status.sql"], patch: PATCH, truncated: false },
  (({ request_id, ...prompt }) => ({ type: "prompt", request: request_id, ...prompt }))(PROMPT),
];

/** Makes a window show the conversation; its address. */
export async function conversation(page, user) {
  const now = Date.now();
  const time = (ms) => new Date(now + ms).toISOString();
  const lease = { deadline: time(14_280_000), idle_deadline: null, remaining_seconds: 14_280, idle_seconds: 4, output_bytes: 21_600 };
  const session = {
    id: ID, user, door: "web", harness: "claude", profile: "default", runner: "laptop", cwd: CWD, status: "waiting", attached: true, why: null, labels: {},
    created_at: time(-121_000), started_at: time(-120_000), ended_at: null, exit: null, end_reason: null,
    limits: { max_runtime_seconds: 14_400, idle_timeout_seconds: 1800, max_output_bytes: 100 << 20 }, lease, recovery: { agent_session_id: "a", cwd: CWD, can_resume: false },
  };
  await page.route(`**/api/sessions/${ID}`, (route) => route.fulfill({ json: session }));
  await page.routeWebSocket(new RegExp(`${ID}/attach`), (socket) => {
    const tell = (frame) => socket.send(JSON.stringify(frame));
    tell({ type: "status", status: "waiting", mode: "default" });
    tell({ type: "lease", ...lease });
    EVENTS.forEach((event, n) => tell({ type: "event", seq: n + 1, epoch: 1, at: time(-120_000 + n * 7000), event }));
    tell({ type: "permission_prompt", ...PROMPT });
    tell({ type: "here", people: [{ user, drives: true, you: true }, { user: "audit.team", drives: false, you: false }] });
  });
  return `/sessions/${ID}`;
}
