-- Nothing here is ever updated: a conversation is a row made once, all that happens to it is appended.
-- Times are milliseconds since 1970 (UTC). Ids are UUIDs as text. Plain SQL: PostgreSQL reads it too.

CREATE TABLE conversations (
    id          TEXT   NOT NULL PRIMARY KEY,
    -- name of the API key that may go on with it ('' without keys)
    key_name    TEXT   NOT NULL,
    -- what figures count: a plain client's records that continue one another share the group of the first
    group_id    TEXT   NOT NULL,
    channel     TEXT,
    started_ms  BIGINT NOT NULL
);
CREATE INDEX conversations_by_group ON conversations (group_id);

-- One row for each answered message of a customer.
CREATE TABLE turns (
    id                 TEXT   NOT NULL PRIMARY KEY,
    conversation_id    TEXT   NOT NULL REFERENCES conversations (id),
    -- from 1
    number             BIGINT NOT NULL,
    -- the turn before it, perhaps in another record of the same group
    previous_id        TEXT   REFERENCES turns (id),
    at_ms              BIGINT NOT NULL,
    -- 1: the client sent no conversation id
    inferred           INTEGER NOT NULL,
    operator           TEXT,
    operator_version   TEXT,
    -- the support logic's state after this turn, JSON
    state              TEXT   NOT NULL,
    -- answer, clarify, handoff, filtered, human
    action             TEXT   NOT NULL,
    kind               TEXT,
    reason             TEXT,
    confidence         DOUBLE PRECISION NOT NULL,
    -- [{"id","score"}], JSON
    sources            TEXT   NOT NULL,
    model_hash         TEXT   NOT NULL,
    pack_version       TEXT   NOT NULL,
    prompt_tokens      BIGINT NOT NULL,
    cached_tokens      BIGINT NOT NULL,
    completion_tokens  BIGINT NOT NULL,
    first_token_ms     BIGINT NOT NULL,
    total_ms           BIGINT NOT NULL,
    -- hash over the transcript that this turn left, for plain clients
    chain_hash         TEXT,
    UNIQUE (conversation_id, number)
);
CREATE INDEX turns_by_chain ON turns (chain_hash);
CREATE INDEX turns_by_time  ON turns (at_ms);

-- Texts stand apart, so that they can be left out, or deleted, without touching a figure.
CREATE TABLE texts (
    turn_id   TEXT NOT NULL PRIMARY KEY REFERENCES turns (id),
    customer  TEXT NOT NULL,
    answer    TEXT NOT NULL
);

-- Whatever else happens: a client that left in the middle of an answer, a takeover, a rating.
CREATE TABLE events (
    id               TEXT   NOT NULL PRIMARY KEY,
    conversation_id  TEXT   REFERENCES conversations (id),
    at_ms            BIGINT NOT NULL,
    kind             TEXT   NOT NULL,
    body             TEXT   NOT NULL
);
CREATE INDEX events_by_time ON events (at_ms);
