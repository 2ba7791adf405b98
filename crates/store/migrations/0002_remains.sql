-- What is kept of sessions that are over, and when that went.

CREATE TABLE remains (
    session_id TEXT NOT NULL PRIMARY KEY,
    files_name TEXT,
    files_entries BIGINT,
    files_bytes BIGINT,
    files_truncated BIGINT,
    files_kept_at BIGINT,
    files_removed_at BIGINT,
    files_removed_why TEXT,
    recording_removed_at BIGINT,
    recording_removed_why TEXT
);
