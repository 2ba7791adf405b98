// Signing in, one's sessions, signing out. Text from the gateway is only ever put in as text.

const byId = (id) => document.getElementById(id);
const parts = ["sign-in", "factor", "inside"];
let csrf = "";

function show(part) {
  for (const id of parts) byId(id).hidden = id !== part;
  byId(part).querySelector("input")?.focus();
}

function tell(line) {
  byId("told").textContent = line ?? "";
  byId("told").hidden = !line;
}

async function ask(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (csrf && method !== "GET") headers["X-CSRF-Token"] = csrf;
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    return { ok: false, error: "The gateway cannot be reached." };
  }
  const told = await answer.json().catch(() => ({}));
  return { ok: answer.ok, status: answer.status, ...told };
}

async function inside() {
  const me = await ask("GET", "/api/me");
  if (!me.ok) {
    show("sign-in");
    return me;
  }
  csrf = me.csrf_token ?? csrf;
  const user = me.user?.name ?? me.user ?? me.name ?? "";
  byId("who").textContent = `Signed in as ${user}`;
  byId("must-change").hidden = !me.must_change;
  show("inside");
  const list = await ask("GET", "/api/sessions?limit=20");
  const rows = (list.items ?? []).map((session) => {
    const row = document.createElement("tr");
    const cells = [
      session.id.slice(-8), session.user ?? "–", session.profile, session.status,
      new Date(session.created_at).toLocaleString(),
    ];
    row.append(...cells.map((text) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      return cell;
    }));
    return row;
  });
  byId("sessions").replaceChildren(...rows);
  byId("none").hidden = rows.length > 0;
  return me;
}

function onSubmit(id, send) {
  byId(id).addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = byId(id).querySelector("button");
    button.disabled = true;
    tell();
    const fields = Object.fromEntries(new FormData(byId(id)));
    const answer = await send(fields);
    button.disabled = false;
    if (answer.ok && answer.step === "totp") return show("factor");
    if (!answer.ok) return tell(answer.error ?? "That did not work.");
    byId(id).reset();
    csrf = answer.csrf_token ?? "";
    await inside();
  });
}

onSubmit("sign-in", (fields) => ask("POST", "/api/auth/login", fields));
onSubmit("factor", ({ code }) => {
  const step = /^\d{6}$/.test(code.trim()) ? "totp" : "recovery";
  return ask("POST", `/api/auth/login/${step}`, { code: code.trim() });
});
byId("sign-out").addEventListener("click", async () => {
  await ask("POST", "/api/auth/logout");
  csrf = "";
  tell();
  show("sign-in");
});

const me = await inside();
if (me.code === "SESSION_EXPIRED" || me.code === "SESSION_REVOKED") tell(me.error);
