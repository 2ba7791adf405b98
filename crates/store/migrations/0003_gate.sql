-- Logins, second factors, tokens, and what the web door has to remember.

ALTER TABLE users ADD COLUMN password_disabled_at BIGINT;
-- Failed tries in a row at the password or what comes after it, whoever made them.
ALTER TABLE users ADD COLUMN failures BIGINT NOT NULL DEFAULT 0;

-- A login is valid while it has not ended, its epoch is the account's, the account is open, and both
-- deadlines lie ahead. Ended ones stay a while, so that a late use is named and audited.
CREATE TABLE logins (
    token_hash TEXT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    epoch BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    idle_timeout BIGINT NOT NULL,
    lifetime_ends_at BIGINT NOT NULL,
    methods TEXT NOT NULL,
    address TEXT NOT NULL,
    device TEXT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT
);

CREATE INDEX logins_by_user ON logins (user_id, ended_at);
CREATE INDEX logins_by_end ON logins (ended_at);

-- Signing in, between the password and the second factor; and whatever else takes two steps.
CREATE TABLE ceremonies (
    id_hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    epoch BIGINT NOT NULL,
    purpose TEXT NOT NULL,
    bucket TEXT NOT NULL,
    tries BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX ceremonies_by_user ON ceremonies (user_id, expires_at);

CREATE TABLE totp (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    secret TEXT NOT NULL,
    last_step BIGINT NOT NULL,
    added_at BIGINT NOT NULL,
    confirmed_at BIGINT
);

CREATE TABLE recovery_codes (
    code_hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    used_at BIGINT
);

CREATE INDEX recovery_codes_by_user ON recovery_codes (user_id);

CREATE TABLE one_time_links (
    link_hash TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

CREATE INDEX one_time_links_by_user ON one_time_links (user_id);

-- Browsers and addresses that somebody signed in with before, by their hashes: they select whose
-- failures are counted, no more.
CREATE TABLE devices (
    device_hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL
);

CREATE INDEX devices_by_user ON devices (user_id, expires_at);

-- Failed tries, by the keyed hash of what they are counted for: a name, a browser, an address. `recent`
-- are the times of the last ones, where a window counts.
CREATE TABLE throttle (
    key_hash TEXT NOT NULL PRIMARY KEY,
    failures BIGINT NOT NULL,
    recent TEXT NOT NULL,
    next_allowed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX throttle_by_expiry ON throttle (expires_at);

-- A program's token is a user's with scopes, or a runner's.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    runner TEXT,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    revoked_at BIGINT
);

CREATE INDEX tokens_by_user ON tokens (user_id);
CREATE UNIQUE INDEX tokens_by_runner ON tokens (user_id, runner)
    WHERE runner IS NOT NULL AND revoked_at IS NULL;

-- Answers to requests that may be sent again. Without a status it is still being worked on.
CREATE TABLE idempotency (
    owner TEXT NOT NULL,
    request_key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    status BIGINT,
    body TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (owner, request_key)
);

CREATE INDEX idempotency_by_creation ON idempotency (created_at);

-- By which login or token a session was started: what ends with a login.
ALTER TABLE sessions ADD COLUMN login_id TEXT;
ALTER TABLE sessions ADD COLUMN auth_epoch BIGINT;
ALTER TABLE sessions ADD COLUMN token_id TEXT;
ALTER TABLE sessions ADD COLUMN runner TEXT;
ALTER TABLE sessions ADD COLUMN model TEXT;
ALTER TABLE sessions ADD COLUMN permission_mode TEXT;
