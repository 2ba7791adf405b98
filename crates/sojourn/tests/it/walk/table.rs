//! The tables, as somebody wrote them who had not read the code.

/// Those who ask, in the order of the tables' columns.
pub(super) const CALLERS: [&str; 10] = [
    "nobody",
    "member",
    "auditor",
    "admin",
    "member's token: read",
    "member's token: sessions",
    "member's token: admin",
    "admin's token: read",
    "admin's token: sessions",
    "admin's token: admin",
];

// What the marks mean: `-` sign in first, `x` forbidden, `o` as if there were no such thing, `+` let
// through to what was asked for, `.` there is no such case.

/// Everybody.
const ALL: &str = "++++++++++";
/// Everybody who is known.
const KNOWN: &str = "-+++++++++";
/// People who have signed in. Tokens never touch passwords, factors, keys, logins or tokens.
const PEOPLE: &str = "-+++xxxxxx";
/// Admins, and their tokens for that.
const ADMINS: &str = "-xx+xxxxx+";

/// Routes that concern no single session.
pub(super) const GENERAL: &[(&str, &str)] = &[
    ("GET /api/health", ALL),
    ("GET /api/openapi.json", ALL),
    ("POST /api/auth/login", ALL),
    ("POST /api/auth/login/totp", ALL),
    ("POST /api/auth/login/recovery", ALL),
    ("POST /api/auth/reset", ALL),
    ("POST /api/auth/reauth", PEOPLE),
    ("POST /api/auth/change-password", PEOPLE),
    ("GET /api/me", KNOWN),
    ("GET /api/me/login", PEOPLE),
    ("POST /api/me/login/extend", PEOPLE),
    ("GET /api/me/logins", PEOPLE),
    ("DELETE /api/me/logins/{id}", PEOPLE),
    ("POST /api/me/logins/revoke-others", PEOPLE),
    ("GET /api/me/keys", PEOPLE),
    ("POST /api/me/keys", PEOPLE),
    ("DELETE /api/me/keys/{id}", PEOPLE),
    ("GET /api/me/totp", PEOPLE),
    ("POST /api/me/totp", PEOPLE),
    ("DELETE /api/me/totp", PEOPLE),
    ("POST /api/me/totp/recovery-codes", PEOPLE),
    ("GET /api/me/tokens", PEOPLE),
    ("POST /api/me/tokens", PEOPLE),
    ("DELETE /api/me/tokens/{id}", PEOPLE),
    ("GET /api/me/push", PEOPLE),
    ("POST /api/me/push", PEOPLE),
    ("DELETE /api/me/push/{id}", PEOPLE),
    ("GET /api/users", ADMINS),
    ("POST /api/users", ADMINS),
    ("PATCH /api/users/{name}", ADMINS),
    // A link is a password to be.
    ("POST /api/users/{name}/reset", "-xx+xxxxxx"),
    ("GET /api/users/{name}/logins", ADMINS),
    ("DELETE /api/users/{name}/logins", ADMINS),
    ("GET /api/tokens", ADMINS),
    ("POST /api/users/{name}/tokens", "-xx+xxxxxx"),
    ("DELETE /api/tokens/{id}", "-xx+xxxxxx"),
    ("GET /api/runners", KNOWN),
    // An auditor has no machine here.
    ("POST /api/runners", "-+x+xxxxxx"),
    ("DELETE /api/runners/{id}", PEOPLE),
    ("POST /api/runners/{id}/pause", "-+++x++x++"),
    ("GET /api/sessions", KNOWN),
    // An auditor touches nothing.
    ("POST /api/sessions", "-+x+x++x++"),
    ("POST /api/sessions/end-all", ADMINS),
    // Which of them is asked on the socket.
    ("GET /api/screens", KNOWN),
    ("GET /api/audit", "-x++xxxxx+"),
    ("GET /api/audit/verify", "-x++xxxxx+"),
    ("GET /api/profiles", KNOWN),
    ("GET /metrics", "-x++xxx+++"),
    // Signs out whoever is signed in: the last of all.
    ("POST /api/auth/logout", ALL),
];

/// Looking at a session: its owner's, auditors' and admins'.
const LOOK: [&str; 3] = ["-+.+++++++", "-o++ooo+++", "-o++ooo+++"];
/// Ending it: its owner's and admins'.
const END: [&str; 3] = ["-+.+x++x++", "-ox+xoox++", "-ox+xoox++"];
/// Typing, answering, going on with it: its owner's alone.
const DRIVE: [&str; 3] = ["-+.+x++x++", "-oxxxooxxx", "-oxxxooxxx"];

/// Routes of one session, by whose it is: one's own, another's, nobody's.
pub(super) const SESSIONS: &[(&str, [&str; 3])] = &[
    ("GET /api/sessions/{id}", LOOK),
    ("GET /api/sessions/{id}/recording", LOOK),
    ("GET /api/sessions/{id}/events", LOOK),
    ("GET /api/sessions/{id}/files", LOOK),
    ("GET /api/sessions/{id}/files.tar", LOOK),
    ("DELETE /api/sessions/{id}", END),
    ("POST /api/sessions/{id}/extend", END),
    ("POST /api/sessions/{id}/interrupt", DRIVE),
    ("POST /api/sessions/{id}/resume", DRIVE),
    ("POST /api/sessions/{id}/prompts/{request_id}", DRIVE),
];

/// The terminal's socket, by whose session it is: looking on, then typing. Admins may take the keyboard
/// of another's.
pub(super) const SOCKET: [(&str, [&str; 3]); 2] = [
    ("watch", ["-+.+++++++", "-o++ooo+++", "-o++ooo+++"]),
    ("drive", ["-+.+x++x++", "-ox+ooox++", "-ox+ooox++"]),
];

/// What SSH asks for, in the order of the next table's columns: a shell, a command, sftp, a connection
/// from here, one to here, the agent, windows.
pub(super) const CHANNELS: [&str; 7] =
    ["shell", "exec", "sftp", "direct-tcpip", "tcpip-forward", "agent", "x11"];

/// Who asks for it, and what they get: `+` it, `x` a refusal, `-` not even in.
pub(super) const SSH: &[(&str, &str)] = &[
    ("mia", "+++xxxx"),
    ("adam", "+++xxxx"),
    ("otto", "xxxxxxx"),
    ("mia+open", "+++++++"),
    ("adam+open", "+++++++"),
    ("otto+open", "xxxxxxx"),
    ("mia+bait", "xxxxxxx"),
    ("mallory", "-------"),
    ("visitor", "+++xxxx"),
];
