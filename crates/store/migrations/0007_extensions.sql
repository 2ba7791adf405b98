-- By whom, and for how long, sessions were extended: for people who look at one. The evidence is the
-- audit log.

CREATE TABLE extensions (
    session_id TEXT NOT NULL,
    n BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    by_name TEXT NOT NULL,
    by_micros BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    why TEXT,
    PRIMARY KEY (session_id, n)
);
