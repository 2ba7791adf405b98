-- Conversations with agents on runners that dial in.

-- Which runner a session is on, and what only an agent's has.
ALTER TABLE sessions ADD COLUMN runner_id TEXT;

-- What is made of a session's events up to `head`; written together with them.
CREATE TABLE agents (
    session_id TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    head BIGINT NOT NULL,
    state TEXT NOT NULL
);

-- Each event once, by the number its runner gave it.
CREATE TABLE agent_events (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    seq BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    at BIGINT NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (session_id, seq)
);

-- What agents asked. What it says is the event `seq`; `answer` is what goes to the runner.
CREATE TABLE agent_prompts (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    request_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    state TEXT NOT NULL,
    decision TEXT,
    decided_by TEXT,
    decided_at BIGINT,
    answer TEXT,
    PRIMARY KEY (session_id, request_id)
);

-- What people said, until the runner has it, and for a while to know it again.
CREATE TABLE agent_inputs (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    client_msg_id TEXT NOT NULL,
    n BIGINT NOT NULL,
    content TEXT NOT NULL,
    said_by TEXT NOT NULL,
    state TEXT NOT NULL,
    code TEXT,
    at BIGINT NOT NULL,
    PRIMARY KEY (session_id, client_msg_id)
);
