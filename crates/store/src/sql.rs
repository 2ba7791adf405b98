//! Every statement of the store. Both engines accept each of them; a test prepares them all.

macro_rules! statements {
    ($($name:ident = $sql:literal;)*) => {
        $(pub(crate) const $name: &str = $sql;)*

        /// All of them, for the test that prepares each.
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name),)*];
    };
}

statements! {
    META = "SELECT value FROM meta WHERE name = $1";
    SET_META = "INSERT INTO meta (name, value) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    ACCOUNTS_CHANGED = "INSERT INTO meta (name, value) VALUES ('accounts', 1)
        ON CONFLICT (name) DO UPDATE SET value = meta.value + 1";

    USERS = "SELECT id, name, role, password, must_change, epoch, created_at, password_changed_at,
        disabled_at, password_disabled_at FROM users ORDER BY name LIMIT $1";
    USER_BY_NAME = "SELECT id, name, role, password, must_change, epoch, created_at,
        password_changed_at, disabled_at, password_disabled_at FROM users WHERE name = $1";
    USER_BY_ID = "SELECT id, name, role, password, must_change, epoch, created_at,
        password_changed_at, disabled_at, password_disabled_at FROM users WHERE id = $1";
    OTHER_ADMINS = "SELECT COUNT(*) AS n FROM users WHERE role = 'admin' AND disabled_at IS NULL
        AND id <> $1";
    COUNT_USERS = "SELECT COUNT(*) AS n FROM users";
    ADD_USER = "INSERT INTO users (id, name, role, password, must_change, epoch, created_at,
        password_changed_at) VALUES ($1, $2, $3, $4, $5, 0, $6, $7)";
    SET_PASSWORD = "UPDATE users SET password = $2, must_change = $3, password_changed_at = $4,
        password_disabled_at = NULL, failures = 0, epoch = epoch + 1 WHERE id = $1";
    SET_ROLE = "UPDATE users SET role = $2 WHERE id = $1";
    DISABLE = "UPDATE users SET disabled_at = $2, epoch = epoch + 1 WHERE id = $1";
    ENABLE = "UPDATE users SET disabled_at = NULL WHERE id = $1";

    KEYS_OF = "SELECT id, user_id, openssh, fingerprint, comment, added_at FROM user_keys
        WHERE user_id = $1 ORDER BY added_at, id LIMIT $2";
    KEY_OF = "SELECT id, user_id, openssh, fingerprint, comment, added_at FROM user_keys
        WHERE user_id = $1 AND fingerprint = $2";
    COUNT_KEYS = "SELECT COUNT(*) AS n FROM user_keys WHERE user_id = $1";
    ADD_KEY = "INSERT INTO user_keys (id, user_id, openssh, fingerprint, comment, added_at)
        VALUES ($1, $2, $3, $4, $5, $6)";
    REMOVE_KEY = "DELETE FROM user_keys WHERE user_id = $1 AND id = $2";

    ADD_SESSION = "INSERT INTO sessions (id, user_id, user_name, door, harness, profile, cwd,
        status, why, labels, limits, peer, client, auth_method, auth_key, auth_epoch, login_id,
        token_id, created_at, runner_id, runner, model, permission_mode, output_bytes)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
        $20, $21, $22, $23, 0)";
    START_SESSION = "UPDATE sessions SET status = $2, started_at = $3
        WHERE id = $1 AND started_at IS NULL AND ended_at IS NULL";
    SET_STATUS = "UPDATE sessions SET status = $2 WHERE id = $1 AND ended_at IS NULL";
    END_SESSION = "UPDATE sessions SET status = $2, ended_at = $3, exit = $4, end_reason = $5,
        ended_by = $6, end_detail = $7, output_bytes = $8, recording_path = $9,
        recording_bytes = $10, recording_sha256 = $11
        WHERE id = $1 AND ended_at IS NULL";
    SESSION = "SELECT * FROM sessions WHERE id = $1";
    SESSIONS = "SELECT * FROM sessions
        WHERE (CAST($1 AS TEXT) IS NULL OR status = $1)
        AND (CAST($2 AS TEXT) IS NULL OR user_name = $2)
        AND (CAST($3 AS TEXT) IS NULL OR harness = $3)
        AND (CAST($4 AS TEXT) IS NULL OR id < $4)
        AND ($5 = 0 OR ended_at IS NULL)
        ORDER BY id DESC LIMIT $6";
    SESSIONS_ENDING_IN = "SELECT * FROM sessions WHERE REPLACE(id, '-', '') LIKE $1
        ORDER BY id DESC LIMIT $2";
    SESSIONS_NOT_OVER = "SELECT * FROM sessions WHERE ended_at IS NULL AND id > $1
        ORDER BY id LIMIT $2";

    REMAINS = "SELECT * FROM remains WHERE session_id = $1";
    KEEP_FILES = "INSERT INTO remains (session_id, files_name, files_entries, files_bytes,
        files_truncated, files_kept_at) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (session_id) DO UPDATE SET files_name = excluded.files_name,
        files_entries = excluded.files_entries, files_bytes = excluded.files_bytes,
        files_truncated = excluded.files_truncated, files_kept_at = excluded.files_kept_at
        WHERE remains.files_name IS NULL";
    REMOVE_FILES = "INSERT INTO remains (session_id, files_removed_at, files_removed_why)
        VALUES ($1, $2, $3)
        ON CONFLICT (session_id) DO UPDATE SET files_removed_at = excluded.files_removed_at,
        files_removed_why = excluded.files_removed_why WHERE remains.files_removed_at IS NULL";
    REMOVE_RECORDING = "INSERT INTO remains (session_id, recording_removed_at,
        recording_removed_why) VALUES ($1, $2, $3)
        ON CONFLICT (session_id) DO UPDATE SET
        recording_removed_at = excluded.recording_removed_at,
        recording_removed_why = excluded.recording_removed_why
        WHERE remains.recording_removed_at IS NULL";

    ADD_EXTENSION = "INSERT INTO extensions (session_id, n, made_at, by_name, by_micros, deadline, why)
        SELECT CAST($1 AS TEXT), COUNT(*) + 1, CAST($2 AS BIGINT), CAST($3 AS TEXT),
        CAST($4 AS BIGINT), CAST($5 AS BIGINT), CAST($6 AS TEXT)
        FROM extensions WHERE session_id = $1 HAVING COUNT(*) < $7";
    EXTENSIONS = "SELECT * FROM extensions WHERE session_id = $1 ORDER BY n LIMIT $2";

    ADD_TOKEN = "INSERT INTO tokens (id, token_hash, user_id, name, runner, scopes, created_at,
        expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    COUNT_TOKENS = "SELECT COUNT(*) AS n FROM tokens WHERE user_id = $1 AND revoked_at IS NULL
        AND (expires_at IS NULL OR expires_at > $2)";
    COUNT_GOOD_TOKENS = "SELECT COUNT(*) AS n, COUNT(tokens.runner) AS runners FROM tokens
        JOIN users ON users.id = tokens.user_id
        WHERE tokens.revoked_at IS NULL AND users.disabled_at IS NULL
        AND (tokens.expires_at IS NULL OR tokens.expires_at > $1)";
    COUNT_RUNNER = "SELECT COUNT(*) AS n FROM tokens WHERE user_id = $1 AND runner = $2
        AND revoked_at IS NULL";
    FORGET_TOKENS = "DELETE FROM tokens WHERE user_id = $1
        AND (revoked_at IS NOT NULL OR expires_at <= $2)
        AND id NOT IN (SELECT id FROM tokens WHERE user_id = $1
            AND (revoked_at IS NOT NULL OR expires_at <= $2) ORDER BY id DESC LIMIT $3)";
    TOKENS = "SELECT tokens.id, tokens.user_id, tokens.name, tokens.runner, tokens.scopes, tokens.created_at,
        tokens.expires_at, tokens.last_used_at, tokens.revoked_at, users.name AS user_name,
        users.role AS user_role, users.disabled_at AS user_disabled_at
        FROM tokens JOIN users ON users.id = tokens.user_id
        WHERE (CAST($1 AS TEXT) IS NULL OR tokens.user_id = $1)
        AND (CAST($2 AS TEXT) IS NULL OR tokens.id < $2)
        ORDER BY tokens.id DESC LIMIT $3";
    TOKEN_BY_ID = "SELECT tokens.id, tokens.user_id, tokens.name, tokens.runner, tokens.scopes, tokens.created_at,
        tokens.expires_at, tokens.last_used_at, tokens.revoked_at, users.name AS user_name,
        users.role AS user_role, users.disabled_at AS user_disabled_at
        FROM tokens JOIN users ON users.id = tokens.user_id
        WHERE tokens.id = $1";
    TOKEN_BY_HASH = "SELECT tokens.id, tokens.user_id, tokens.name, tokens.runner, tokens.scopes, tokens.created_at,
        tokens.expires_at, tokens.last_used_at, tokens.revoked_at, users.name AS user_name,
        users.role AS user_role, users.disabled_at AS user_disabled_at
        FROM tokens JOIN users ON users.id = tokens.user_id
        WHERE tokens.token_hash = $1";
    TOKENS_ENDING_IN = "SELECT tokens.id, tokens.user_id, tokens.name, tokens.runner, tokens.scopes, tokens.created_at,
        tokens.expires_at, tokens.last_used_at, tokens.revoked_at, users.name AS user_name,
        users.role AS user_role, users.disabled_at AS user_disabled_at
        FROM tokens JOIN users ON users.id = tokens.user_id
        WHERE REPLACE(tokens.id, '-', '') LIKE $1 ORDER BY tokens.id DESC LIMIT $2";
    REVOKE_TOKEN = "UPDATE tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
    TOUCH_TOKEN = "UPDATE tokens SET last_used_at = $2 WHERE id = $1 AND revoked_at IS NULL
        AND (last_used_at IS NULL OR last_used_at <= $3)";
    RUNNERS = "SELECT tokens.id, tokens.user_id, tokens.runner, tokens.created_at, tokens.paused,
        tokens.seen_at, tokens.seen_from, tokens.hello, users.name AS user_name
        FROM tokens JOIN users ON users.id = tokens.user_id
        WHERE tokens.runner IS NOT NULL AND tokens.revoked_at IS NULL
        AND (CAST($1 AS TEXT) IS NULL OR tokens.user_id = $1)
        AND (CAST($2 AS TEXT) IS NULL OR tokens.id = $2)
        ORDER BY users.name, tokens.runner LIMIT $3";
    RUNNER_CAME = "UPDATE tokens SET seen_at = $2, seen_from = $3, hello = $4
        WHERE id = $1 AND runner IS NOT NULL AND revoked_at IS NULL";
    RUNNER_SEEN = "UPDATE tokens SET seen_at = $2
        WHERE id = $1 AND runner IS NOT NULL AND revoked_at IS NULL";
    PAUSE_RUNNER = "UPDATE tokens SET paused = $2
        WHERE id = $1 AND runner IS NOT NULL AND revoked_at IS NULL";

    COUNT_REQUESTS = "SELECT COUNT(*) AS n FROM idempotency WHERE owner = $1 AND created_at > $2";
    BEGIN_REQUEST = "INSERT INTO idempotency (owner, request_key, request_hash, created_at, body)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (owner, request_key) DO NOTHING";
    REQUEST = "SELECT request_hash, status, body FROM idempotency
        WHERE owner = $1 AND request_key = $2";
    FINISH_REQUEST = "UPDATE idempotency SET status = $3, body = $4
        WHERE owner = $1 AND request_key = $2 AND status IS NULL";
    DROP_REQUEST = "DELETE FROM idempotency
        WHERE owner = $1 AND request_key = $2 AND status IS NULL";
    KEEP_MADE = "UPDATE idempotency SET status = 0 WHERE status IS NULL AND EXISTS (
        SELECT 1 FROM sessions WHERE sessions.id = idempotency.body AND (
            sessions.user_id = idempotency.owner
            OR (sessions.user_id IS NULL AND idempotency.owner LIKE 'local:%')))";
    DROP_UNANSWERED = "DELETE FROM idempotency WHERE status IS NULL";
    PURGE_REQUEST = "DELETE FROM idempotency
        WHERE owner = $1 AND request_key = $2 AND created_at <= $3";
    PURGE_REQUESTS = "DELETE FROM idempotency WHERE created_at <= $1";
    LIVE_LOGINS = "SELECT * FROM logins WHERE ended_at IS NULL
        AND (CAST($1 AS TEXT) IS NULL OR id > $1) ORDER BY id LIMIT $2";
    LOGINS_OF = "SELECT * FROM logins WHERE user_id = $1 AND ended_at IS NULL
        ORDER BY last_seen_at DESC, id DESC LIMIT $2";
    LOGIN_BY_ID = "SELECT * FROM logins WHERE id = $1";
    LOGIN_BY_TOKEN = "SELECT * FROM logins WHERE token_hash = $1";
    HOLD_USER = "UPDATE users SET epoch = epoch
        WHERE id = $1 AND epoch = $2 AND disabled_at IS NULL";
    HOLD_ACCOUNT = "UPDATE users SET epoch = epoch WHERE id = $1";
    ADD_LOGIN = "INSERT INTO logins (token_hash, id, user_id, epoch, created_at, authenticated_at,
        last_seen_at, idle_timeout, lifetime_ends_at, methods, address, device)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    ROTATE_LOGIN = "UPDATE logins SET token_hash = $2, authenticated_at = $3, last_seen_at = $4,
        idle_timeout = $5, lifetime_ends_at = $6, methods = $7
        WHERE id = $1 AND ended_at IS NULL";
    TOUCH_LOGIN = "UPDATE logins SET last_seen_at = $2 WHERE id = $1 AND last_seen_at < $2
        AND ended_at IS NULL";
    END_LOGIN = "UPDATE logins SET ended_at = $2, end_reason = $3
        WHERE id = $1 AND ended_at IS NULL";
    EXPIRE_LOGIN = "UPDATE logins SET ended_at = $2, end_reason = $3, last_seen_at = $4
        WHERE id = $1 AND ended_at IS NULL AND last_seen_at <= $4";
    COUNT_SESSIONS_BY_PASSWORD = "SELECT COUNT(*) AS n FROM sessions WHERE user_id = $1
        AND ended_at IS NULL AND (login_id IS NOT NULL OR auth_method IN ('password', 'login'))";
    FORGET_LOGINS = "DELETE FROM logins WHERE ended_at < $1";

    FAILURES = "SELECT failures, recent, next_allowed_at FROM throttle
        WHERE key_hash = $1 AND expires_at > $2";
    COUNT_FAILURE = "INSERT INTO throttle (key_hash, failures, recent, next_allowed_at, expires_at)
        VALUES ($1, 1, '', 0, 0) ON CONFLICT (key_hash) DO UPDATE SET
        failures = CASE WHEN throttle.expires_at > $2 THEN throttle.failures + 1 ELSE 1 END,
        recent = CASE WHEN throttle.expires_at > $2 THEN throttle.recent ELSE '' END
        RETURNING failures, recent";
    SET_FAILURES = "UPDATE throttle SET recent = $2, next_allowed_at = $3, expires_at = $4
        WHERE key_hash = $1";
    CLEAR_FAILURES = "DELETE FROM throttle WHERE key_hash = $1";
    FORGET_FAILURES = "DELETE FROM throttle WHERE expires_at <= $1";
    CROWD_OUT_FAILURES = "DELETE FROM throttle WHERE key_hash IN (
        SELECT key_hash FROM throttle ORDER BY expires_at DESC, key_hash LIMIT $2 OFFSET $1)";
    USER_FAILURES = "SELECT failures FROM users WHERE id = $1";
    COUNT_USER_FAILURE = "UPDATE users SET failures = failures + 1 WHERE id = $1
        RETURNING failures";
    CLEAR_USER_FAILURES = "UPDATE users SET failures = 0 WHERE id = $1 AND failures > 0";
    DISABLE_PASSWORD = "UPDATE users SET password_disabled_at = $2
        WHERE id = $1 AND password_disabled_at IS NULL AND password IS NOT NULL";
    REHASH = "UPDATE users SET password = $3 WHERE id = $1 AND password = $2";

    DEVICE = "SELECT device_hash FROM devices
        WHERE device_hash = $1 AND user_id = $2 AND expires_at > $3";
    KNOW_DEVICE = "INSERT INTO devices (device_hash, user_id, expires_at) VALUES ($1, $2, $3)
        ON CONFLICT (device_hash) DO UPDATE SET expires_at = excluded.expires_at";
    CROWD_OUT_DEVICES = "DELETE FROM devices WHERE user_id = $1 AND device_hash IN (
        SELECT device_hash FROM devices WHERE user_id = $1
        ORDER BY expires_at DESC, device_hash LIMIT 1000 OFFSET $2)";

    ADD_CEREMONY = "INSERT INTO ceremonies (id_hash, user_id, epoch, purpose, bucket, tries,
        expires_at) VALUES ($1, $2, $3, $4, $5, 0, $6)";
    FORGET_CEREMONIES = "DELETE FROM ceremonies WHERE expires_at <= $1";
    CROWD_OUT_CEREMONIES = "DELETE FROM ceremonies WHERE user_id = $1 AND id_hash IN (
        SELECT id_hash FROM ceremonies WHERE user_id = $1
        ORDER BY expires_at DESC, id_hash LIMIT 1000 OFFSET $2)";
    TRY_CEREMONY = "UPDATE ceremonies SET tries = tries + 1
        WHERE id_hash = $1 AND purpose = $2 AND tries < $3 AND expires_at > $4
        RETURNING user_id, epoch, bucket, tries";
    END_CEREMONY = "DELETE FROM ceremonies WHERE id_hash = $1";
    END_CEREMONIES_OF = "DELETE FROM ceremonies WHERE user_id = $1";

    TOTP = "SELECT secret, last_step, added_at, confirmed_at FROM totp WHERE user_id = $1";
    BEGIN_TOTP = "INSERT INTO totp (user_id, secret, last_step, added_at) VALUES ($1, $2, 0, $3)
        ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, last_step = 0,
        added_at = excluded.added_at WHERE totp.confirmed_at IS NULL";
    CONFIRM_TOTP = "UPDATE totp SET confirmed_at = $3, last_step = $4
        WHERE user_id = $1 AND secret = $2 AND confirmed_at IS NULL";
    USE_TOTP_STEP = "UPDATE totp SET last_step = $2
        WHERE user_id = $1 AND last_step < $2 AND confirmed_at IS NOT NULL";
    REMOVE_TOTP = "DELETE FROM totp WHERE user_id = $1 AND confirmed_at IS NOT NULL";

    ADD_RECOVERY_CODE = "INSERT INTO recovery_codes (code_hash, user_id) VALUES ($1, $2)";
    FORGET_RECOVERY_CODES = "DELETE FROM recovery_codes WHERE user_id = $1";
    USE_RECOVERY_CODE = "UPDATE recovery_codes SET used_at = $3
        WHERE code_hash = $1 AND user_id = $2 AND used_at IS NULL";
    COUNT_RECOVERY_CODES = "SELECT COUNT(*) AS n FROM recovery_codes
        WHERE user_id = $1 AND used_at IS NULL";

    ADD_LINK = "INSERT INTO one_time_links (link_hash, kind, user_id, expires_at)
        VALUES ($1, $2, $3, $4)";
    LINK = "SELECT user_id FROM one_time_links
        WHERE link_hash = $1 AND kind = $2 AND used_at IS NULL AND expires_at > $3";
    USE_LINK = "UPDATE one_time_links SET used_at = $3
        WHERE link_hash = $1 AND kind = $2 AND used_at IS NULL AND expires_at > $3";
    FORGET_LINKS = "DELETE FROM one_time_links WHERE user_id = $1 OR expires_at <= $2";

    ADD_AGENT = "INSERT INTO agents (session_id, head, state) VALUES ($1, 0, $2)";
    AGENT = "SELECT head, state FROM agents WHERE session_id = $1";
    MOVE_AGENT = "UPDATE agents SET head = $2, state = $3 WHERE session_id = $1 AND head = $4";
    ADD_EVENT = "INSERT INTO agent_events (session_id, seq, epoch, at, event)
        VALUES ($1, $2, $3, $4, $5)";
    AGENT_EVENTS = "SELECT seq, epoch, at, event FROM agent_events
        WHERE session_id = $1 AND seq >= $2 ORDER BY seq LIMIT $3";
    ADD_PROMPT = "INSERT INTO agent_prompts (session_id, request_id, seq, epoch, state)
        VALUES ($1, $2, $3, $4, 'pending') ON CONFLICT (session_id, request_id) DO NOTHING";
    AGENT_PROMPT = "SELECT * FROM agent_prompts WHERE session_id = $1 AND request_id = $2";
    AGENT_PROMPTS = "SELECT * FROM agent_prompts
        WHERE session_id = $1 AND (state = 'pending' OR answer IS NOT NULL) ORDER BY seq";
    ANSWER_PROMPT = "UPDATE agent_prompts SET state = 'answered', decision = $3, decided_by = $4,
        decided_at = $5, answer = $6
        WHERE session_id = $1 AND request_id = $2 AND state = 'pending'";
    SETTLE_PROMPT = "UPDATE agent_prompts SET state = $3, decision = $4, decided_by = $5
        WHERE session_id = $1 AND request_id = $2 AND state = 'pending'";
    FORGET_ANSWER = "UPDATE agent_prompts SET answer = NULL
        WHERE session_id = $1 AND request_id = $2";
    COUNT_INPUTS = "SELECT COUNT(*) AS inputs, MAX(n) AS last FROM agent_inputs
        WHERE session_id = $1";
    ADD_INPUT = "INSERT INTO agent_inputs (session_id, client_msg_id, n, content, said_by, state, at)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (session_id, client_msg_id) DO NOTHING";
    MOVE_INPUT = "UPDATE agent_inputs SET state = $3, content = COALESCE($4, content), code = $5
        WHERE session_id = $1 AND client_msg_id = $2 AND state IN ('kept', 'queued')";
    INPUT = "SELECT * FROM agent_inputs WHERE session_id = $1 AND client_msg_id = $2";
    WAITING_INPUTS = "SELECT * FROM agent_inputs
        WHERE session_id = $1 AND state IN ('kept', 'queued') ORDER BY n";
    FORGET_EVENTS = "DELETE FROM agent_events WHERE session_id = $1
        AND EXISTS (SELECT 1 FROM sessions WHERE id = $1 AND ended_at IS NOT NULL)";
    FORGET_PROMPTS = "DELETE FROM agent_prompts WHERE session_id = $1
        AND EXISTS (SELECT 1 FROM sessions WHERE id = $1 AND ended_at IS NOT NULL)";
    FORGET_INPUTS = "DELETE FROM agent_inputs WHERE session_id = $1
        AND EXISTS (SELECT 1 FROM sessions WHERE id = $1 AND ended_at IS NOT NULL)";
    REOPEN_SESSION = "UPDATE sessions SET status = $2, ended_at = NULL, exit = NULL,
        end_reason = NULL, ended_by = NULL, end_detail = NULL WHERE id = $1";

    ADD_PUSH = "INSERT INTO push_devices (id, user_id, login_id, epoch, endpoint, p256dh, auth, device,
        added_at) SELECT CAST($1 AS TEXT), id, CAST($3 AS TEXT), epoch, CAST($4 AS TEXT),
        CAST($5 AS TEXT), CAST($6 AS TEXT), CAST($7 AS TEXT), CAST($8 AS BIGINT) FROM users
        WHERE id = $2 AND disabled_at IS NULL";
    REMOVE_PUSH_ENDPOINT = "DELETE FROM push_devices WHERE endpoint = $1";
    KEEP_NEWEST_PUSH = "DELETE FROM push_devices WHERE user_id = $1 AND id NOT IN (SELECT id
        FROM push_devices WHERE user_id = $1 ORDER BY added_at DESC, id DESC LIMIT $2)";
    FORGET_PUSH = "DELETE FROM push_devices WHERE user_id = $1 AND (added_at < $2
        OR epoch <> (SELECT epoch FROM users WHERE id = $1)
        OR login_id IN (SELECT id FROM logins WHERE user_id = $1 AND ended_at IS NOT NULL
            AND end_reason NOT IN ('inactivity', 'lifetime')))";
    PUSH_OF = "SELECT p.id, p.user_id, p.login_id, p.endpoint, p.p256dh, p.auth, p.device, p.added_at,
        (SELECT COUNT(*) FROM logins l WHERE l.id = p.login_id AND l.ended_at IS NULL
            AND l.epoch = p.epoch AND l.lifetime_ends_at > $2
            AND l.last_seen_at + l.idle_timeout > $2) AS signed_in
        FROM push_devices p JOIN users u ON u.id = p.user_id
        WHERE p.user_id = $1 AND u.disabled_at IS NULL ORDER BY p.added_at, p.id LIMIT $3";
    REMOVE_PUSH = "DELETE FROM push_devices WHERE user_id = $1 AND id = $2";

    WITHOUT_WORDS = "SELECT * FROM sessions WHERE ended_at > $1
        AND NOT EXISTS (SELECT 1 FROM session_words w WHERE w.session_id = sessions.id)
        ORDER BY ended_at DESC LIMIT $2";
    KEEP_WORDS = "INSERT INTO session_words (session_id, words) VALUES ($1, $2)
        ON CONFLICT (session_id) DO NOTHING";
    NO_WORDS = "INSERT INTO session_words (session_id, words) SELECT id, '' FROM sessions WHERE id = $1
        ON CONFLICT (session_id) DO UPDATE SET words = ''";
    FORGET_WORDS = "DELETE FROM session_words WHERE session_id = $1";
    WITH_WORDS = "SELECT session_id FROM session_words WHERE session_id >= $1 AND session_id <= $2
        AND words LIKE $3 ESCAPE '\\' LIMIT $4";
    WORDS = "SELECT words FROM session_words WHERE session_id = $1";

    TELL = "INSERT INTO outbox (event_id, created_at, payload) VALUES ($1, $2, $3)";
    OUTBOX = "SELECT event_id, payload FROM outbox ORDER BY created_at, event_id LIMIT $1";
    OUTBOX_IDS = "SELECT event_id FROM outbox";
    FORGET = "DELETE FROM outbox WHERE event_id = $1";
}
