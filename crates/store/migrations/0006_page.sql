-- What browsers are told while nobody looks at the page, and what sessions can be found by.

-- A browser that wants to be told. It belongs to the login it was added in; it outlives that login's
-- time, and not its end by a person.
CREATE TABLE push_devices (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    login_id TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    endpoint TEXT NOT NULL UNIQUE,
    p256dh TEXT NOT NULL,
    auth TEXT NOT NULL,
    device TEXT NOT NULL,
    added_at BIGINT NOT NULL
);

CREATE INDEX push_devices_by_user ON push_devices (user_id, added_at);

-- The words of a session: command lines, or what was said to an agent and by it. Lower case, bounded.
CREATE TABLE session_words (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    words TEXT NOT NULL
);

CREATE INDEX sessions_by_end ON sessions (ended_at);
