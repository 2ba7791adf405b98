-- Portable types only: TEXT (ids too), BIGINT (microseconds since the epoch, sizes, 0 or 1).

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    password TEXT,
    must_change BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    password_changed_at BIGINT,
    disabled_at BIGINT
);

CREATE TABLE user_keys (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    openssh TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    comment TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    UNIQUE (user_id, fingerprint)
);

CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT REFERENCES users (id),
    user_name TEXT,
    door TEXT NOT NULL,
    harness TEXT NOT NULL,
    profile TEXT NOT NULL,
    cwd TEXT,
    status TEXT NOT NULL,
    why TEXT,
    labels TEXT NOT NULL,
    limits TEXT NOT NULL,
    peer TEXT,
    client TEXT,
    auth_method TEXT,
    auth_key TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    exit TEXT,
    end_reason TEXT,
    ended_by TEXT,
    end_detail TEXT,
    output_bytes BIGINT NOT NULL,
    recording_path TEXT,
    recording_bytes BIGINT,
    recording_sha256 TEXT
);

CREATE INDEX sessions_by_creation ON sessions (created_at, id);
CREATE INDEX sessions_by_user ON sessions (user_id, created_at);
CREATE INDEX sessions_not_over ON sessions (id) WHERE ended_at IS NULL;

-- Audit events that belong to a change, until the audit log has them.
CREATE TABLE outbox (
    event_id TEXT NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    payload TEXT NOT NULL
);
