-- The people's side: who owns a conversation, its queue, what people write, staff, the change feed, webhooks.
-- What happened is appended (owner_changes, messages, changes, events); `desk` holds each conversation's present and is
-- only written in the transaction that appends what led to it.

CREATE TABLE staff (
    id             TEXT    NOT NULL PRIMARY KEY,
    login          TEXT    NOT NULL UNIQUE,
    name           TEXT    NOT NULL,
    -- operator, lead
    role           TEXT    NOT NULL,
    -- names of teams, JSON; [] is every team
    teams          TEXT    NOT NULL,
    -- argon2id, PHC string
    password_hash  TEXT    NOT NULL,
    active         INTEGER NOT NULL,
    created_ms     BIGINT  NOT NULL
);

-- Links that make an account, once. Only the SHA-256 of the token is kept.
CREATE TABLE join_links (
    token_hash  TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    role        TEXT   NOT NULL,
    teams       TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    expires_ms  BIGINT,
    used_by     TEXT   REFERENCES staff (id)
);

-- Only the SHA-256 of the session's id is kept.
CREATE TABLE sessions (
    id_hash     TEXT   NOT NULL PRIMARY KEY,
    staff_id    TEXT   NOT NULL REFERENCES staff (id),
    csrf        TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    seen_ms     BIGINT NOT NULL,
    expires_ms  BIGINT NOT NULL
);
CREATE INDEX sessions_by_staff ON sessions (staff_id);

-- A conversation as the desk sees it now.
CREATE TABLE desk (
    conversation_id   TEXT    NOT NULL PRIMARY KEY REFERENCES conversations (id),
    -- bot, waiting, person, closed
    owner             TEXT    NOT NULL,
    staff_id          TEXT    REFERENCES staff (id),
    team              TEXT,
    handoff_id        TEXT,
    waiting_since_ms  BIGINT,
    -- 1: somebody was told that they are in the queue
    queue_told        INTEGER NOT NULL,
    -- solved, unsolved, spam
    closed_as         TEXT,
    channel           TEXT,
    customer_id       TEXT,
    customer_name     TEXT,
    language          TEXT,
    operator          TEXT,
    operator_version  TEXT,
    -- calm, angry
    mood              TEXT    NOT NULL,
    -- customer messages
    turns             BIGINT  NOT NULL,
    -- who wrote last and the beginning of it
    last_from         TEXT    NOT NULL,
    last_text         TEXT    NOT NULL,
    -- 1: a plain client's record that another one continues
    superseded        INTEGER NOT NULL,
    started_ms        BIGINT  NOT NULL,
    updated_ms        BIGINT  NOT NULL
);
CREATE INDEX desk_by_time ON desk (superseded, updated_ms);
CREATE INDEX desk_by_owner ON desk (owner, superseded, updated_ms);
CREATE INDEX desk_by_customer ON desk (channel, customer_id);

-- Each change of ownership.
CREATE TABLE owner_changes (
    id               TEXT   NOT NULL PRIMARY KEY,
    conversation_id  TEXT   NOT NULL REFERENCES conversations (id),
    at_ms            BIGINT NOT NULL,
    from_owner       TEXT   NOT NULL,
    to_owner         TEXT   NOT NULL,
    -- who did it; NULL: the program or the customer
    staff_id         TEXT   REFERENCES staff (id),
    -- handed_off, taken, given_back, closed, reopened
    what             TEXT   NOT NULL
);
CREATE INDEX owner_changes_by_conversation ON owner_changes (conversation_id, at_ms);

-- What was handed over. The dialogue is read from turns and messages.
CREATE TABLE handoffs (
    id               TEXT   NOT NULL PRIMARY KEY,
    conversation_id  TEXT   NOT NULL REFERENCES conversations (id),
    turn_id          TEXT   NOT NULL REFERENCES turns (id),
    at_ms            BIGINT NOT NULL,
    queue            TEXT   NOT NULL,
    -- the turn's kind: wants_person, anger, reserved, ...
    kind             TEXT   NOT NULL,
    reason           TEXT   NOT NULL,
    summary          TEXT   NOT NULL,
    -- JSON
    tags             TEXT   NOT NULL
);
CREATE INDEX handoffs_by_conversation ON handoffs (conversation_id, at_ms);

-- What is no turn: people's replies, staff's notes, the program's own words. (Customers' messages are turns, also while
-- a person owns the conversation: then their action is `human`.)
CREATE TABLE messages (
    id               TEXT   NOT NULL PRIMARY KEY,
    conversation_id  TEXT   NOT NULL REFERENCES conversations (id),
    at_ms            BIGINT NOT NULL,
    -- person, system, note
    sender           TEXT   NOT NULL,
    staff_id         TEXT   REFERENCES staff (id),
    text             TEXT   NOT NULL
);
CREATE INDEX messages_by_conversation ON messages (conversation_id, at_ms);

-- What staff say of an answer; the last one holds.
CREATE TABLE marks (
    id            TEXT    NOT NULL PRIMARY KEY,
    turn_id       TEXT    NOT NULL REFERENCES turns (id),
    at_ms         BIGINT  NOT NULL,
    staff_id      TEXT    NOT NULL REFERENCES staff (id),
    wrong         INTEGER NOT NULL,
    right_answer  TEXT
);
CREATE INDEX marks_by_turn ON marks (turn_id, at_ms);

-- Messages of the widget and of channels, as they arrived: accepted once, answered once.
CREATE TABLE inbound (
    -- `widget:VISITOR` or `channel:NAME`
    origin           TEXT   NOT NULL,
    -- the sender's own id of the message
    message_id       TEXT   NOT NULL,
    customer_id      TEXT,
    conversation_id  TEXT   NOT NULL,
    at_ms            BIGINT NOT NULL,
    text             TEXT   NOT NULL,
    -- what the turn needs besides: operator, audience, metadata (JSON)
    context          TEXT   NOT NULL,
    -- the turn that answered it
    turn_id          TEXT,
    attempts         INTEGER NOT NULL,
    PRIMARY KEY (origin, message_id)
);
CREATE INDEX inbound_waiting ON inbound (turn_id, at_ms);
CREATE INDEX inbound_by_customer ON inbound (origin, customer_id);
CREATE INDEX inbound_by_conversation ON inbound (conversation_id);

-- The feed of all that staff, widgets and webhooks must hear of. Written under the one write lock: seq grows in the order
-- of commits. (PostgreSQL: BIGSERIAL, under an advisory lock.)
CREATE TABLE changes (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms            BIGINT NOT NULL,
    -- message, owner, queue, suggestion, knowledge
    kind             TEXT   NOT NULL,
    conversation_id  TEXT,
    -- JSON; no customer's words
    body             TEXT   NOT NULL
);
CREATE INDEX changes_by_conversation ON changes (conversation_id, seq);

-- How far the feed was turned into deliveries.
CREATE TABLE relay (
    name  TEXT   NOT NULL PRIMARY KEY,
    seq   BIGINT NOT NULL
);

-- Webhooks to be sent, and sent.
CREATE TABLE deliveries (
    id               TEXT    NOT NULL PRIMARY KEY,
    -- name of the endpoint in the settings
    endpoint         TEXT    NOT NULL,
    kind             TEXT    NOT NULL,
    conversation_id  TEXT,
    created_ms       BIGINT  NOT NULL,
    payload          TEXT    NOT NULL,
    -- waiting, delivered, given_up
    state            TEXT    NOT NULL,
    attempts         INTEGER NOT NULL,
    next_ms          BIGINT  NOT NULL,
    -- of the last attempt
    status           INTEGER,
    error            TEXT,
    done_ms          BIGINT
);
CREATE INDEX deliveries_due ON deliveries (state, next_ms);
CREATE INDEX deliveries_by_time ON deliveries (created_ms);
CREATE INDEX deliveries_by_conversation ON deliveries (conversation_id);

-- Words of conversations, for search at the desk (SQLite's own; PostgreSQL: tsvector).
CREATE VIRTUAL TABLE desk_search USING fts5 (conversation_id UNINDEXED, text, tokenize = 'unicode61 remove_diacritics 2');

-- Conversations from before the desk.
INSERT INTO desk (conversation_id, owner, queue_told, channel, operator, operator_version, mood, turns, last_from,
                  last_text, superseded, started_ms, updated_ms)
SELECT c.id, 'bot', 0, c.channel, t.operator, t.operator_version, 'calm', t.number, 'bot',
       COALESCE(SUBSTR(x.answer, 1, 200), ''), 0, c.started_ms, t.at_ms
  FROM conversations c
  JOIN turns t ON t.conversation_id = c.id
   AND t.number = (SELECT MAX(number) FROM turns WHERE conversation_id = c.id)
  LEFT JOIN texts x ON x.turn_id = t.id;
