-- Files that came through the API, and what they are attached to. Contents lie here too: a file is there, whole, once its
-- row is, and a backup of the database has all of them. Folders and indices in the state directory are made from this.

CREATE TABLE files (
    id          TEXT   NOT NULL PRIMARY KEY,
    -- the API key that uploaded it; nobody else's sees it
    key_name    TEXT   NOT NULL,
    filename    TEXT   NOT NULL,
    purpose     TEXT   NOT NULL,
    bytes       BIGINT NOT NULL,
    created_ms  BIGINT NOT NULL,
    expires_ms  BIGINT
);
CREATE INDEX files_by_key ON files (key_name, created_ms);

CREATE TABLE file_contents (
    file_id  TEXT NOT NULL PRIMARY KEY REFERENCES files (id) ON DELETE CASCADE,
    content  BLOB NOT NULL
);

CREATE TABLE vector_stores (
    id              TEXT    NOT NULL PRIMARY KEY,
    key_name        TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    -- JSON
    metadata        TEXT    NOT NULL,
    created_ms      BIGINT  NOT NULL,
    last_active_ms  BIGINT  NOT NULL,
    -- days after the last activity; NULL: never
    expire_days     BIGINT
);

CREATE TABLE vector_store_files (
    store_id     TEXT   NOT NULL REFERENCES vector_stores (id) ON DELETE CASCADE,
    file_id      TEXT   NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    -- JSON
    attributes   TEXT   NOT NULL,
    created_ms   BIGINT NOT NULL,
    -- in_progress, completed, failed, cancelled
    status       TEXT   NOT NULL,
    -- text that was indexed
    usage_bytes  BIGINT NOT NULL DEFAULT 0,
    error_code   TEXT,
    error        TEXT,
    batch_id     TEXT,
    PRIMARY KEY (store_id, file_id)
);
CREATE INDEX vector_store_files_by_file ON vector_store_files (file_id);
