-- Figures: derived from turns and events, never the other way round. `conversation_figures` and `filtered_figures` can
-- be emptied at any time; every group named in `figures_stale` is derived again (store/figures/refresh.sql) before
-- figures are read.

CREATE INDEX events_by_conversation ON events (conversation_id, kind);

-- One row a group (what figures count as one conversation).
CREATE TABLE conversation_figures (
    group_id           TEXT    NOT NULL PRIMARY KEY,
    started_ms         BIGINT  NOT NULL,
    -- the last message, whoever wrote it
    last_ms            BIGINT  NOT NULL,
    channel            TEXT,
    -- who served the last real request (where there is none: the last message)
    operator           TEXT,
    operator_version   TEXT,
    -- request; or what alone it held: wrong_company, off_topic, filtered, courtesy
    subject            TEXT    NOT NULL,
    -- 1: a person was asked to take over, or did
    person             INTEGER NOT NULL,
    -- why: the first handoff's kind, or taken_over where a person came unasked
    handoff_kind       TEXT,
    -- what the customer said: 1 solved, 0 not solved, NULL nothing
    said_solved        INTEGER,
    -- 1: the last real request got an answer (no question back, no failure)
    answered_last      INTEGER NOT NULL,
    -- customer's messages up to the last real request
    turns              BIGINT  NOT NULL,
    -- of the first message that the bot answered; milliseconds
    first_token_ms     BIGINT,
    full_answer_ms     BIGINT,
    -- from the first handoff to the first reply of a person
    person_reply_ms    BIGINT,
    -- time that the machine worked for it
    busy_ms            BIGINT  NOT NULL
);
CREATE INDEX conversation_figures_by_time ON conversation_figures (started_ms);

-- Refused messages of a group, by kind.
CREATE TABLE filtered_figures (
    group_id  TEXT   NOT NULL,
    kind      TEXT   NOT NULL,
    messages  BIGINT NOT NULL,
    PRIMARY KEY (group_id, kind)
);

CREATE TABLE figures_stale (group_id TEXT NOT NULL PRIMARY KEY);

INSERT INTO figures_stale (group_id) SELECT DISTINCT group_id FROM conversations;

-- In the transaction that adds the row, so that no crash leaves a figure behind.
CREATE TRIGGER figures_of_a_turn AFTER INSERT ON turns BEGIN
    INSERT INTO figures_stale (group_id)
    SELECT group_id FROM conversations WHERE id = NEW.conversation_id ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER figures_of_an_event AFTER INSERT ON events WHEN NEW.conversation_id IS NOT NULL BEGIN
    INSERT INTO figures_stale (group_id)
    SELECT group_id FROM conversations WHERE id = NEW.conversation_id ON CONFLICT DO NOTHING;
END;

-- What people changed in the knowledge through the console: committed here first, then written to the pack's desk/
-- folder (kb/desk.rs), which this log can build anew. Append-only.
CREATE TABLE knowledge_changes (
    -- counts up; an item's version is its latest seq
    seq      INTEGER PRIMARY KEY,
    at_ms    BIGINT NOT NULL,
    -- who (staff name; empty: the command line)
    author   TEXT   NOT NULL,
    -- faq or article
    kind     TEXT   NOT NULL,
    -- the item's id: `faq-N`, or the article's path
    item     TEXT   NOT NULL,
    -- put or delete
    action   TEXT   NOT NULL,
    -- JSON: {question, answer, lang, tags} or {markdown}
    body     TEXT   NOT NULL
);
CREATE INDEX knowledge_changes_by_item ON knowledge_changes (item, seq);

-- What became of a suggestion. Its id is made of the turns it came from, so that the same one is not made twice.
CREATE TABLE suggestion_verdicts (
    id        TEXT   NOT NULL PRIMARY KEY,
    at_ms     BIGINT NOT NULL,
    author    TEXT   NOT NULL,
    -- accepted or dismissed
    verdict   TEXT   NOT NULL,
    -- the change that it became
    change_seq BIGINT
);
-- Turns that a verdict covers: they are suggested no more.
CREATE TABLE suggestion_turns (
    turn_id        TEXT NOT NULL PRIMARY KEY,
    suggestion_id  TEXT NOT NULL
);
-- Which version serves: each promotion with the figures that carried it, or the reason why they were overruled.
CREATE TABLE promotions (
    id        TEXT   NOT NULL PRIMARY KEY,
    at_ms     BIGINT NOT NULL,
    operator  TEXT   NOT NULL,
    from_version TEXT NOT NULL,
    to_version   TEXT NOT NULL,
    forced    INTEGER NOT NULL,
    reason    TEXT   NOT NULL,
    -- JSON
    evidence  TEXT   NOT NULL
);
