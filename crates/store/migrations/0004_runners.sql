-- What is known of a runner besides its token: whether it is paused, when and from where it was last
-- heard of, and what it said of itself then.

ALTER TABLE tokens ADD COLUMN paused BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN seen_at BIGINT;
ALTER TABLE tokens ADD COLUMN seen_from TEXT;
ALTER TABLE tokens ADD COLUMN hello TEXT;
