-- What the index is of: schema, origin and epoch of the node, cursor, generation, next row, whether it is whole.
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;

CREATE TABLE sources (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    mark INTEGER NOT NULL,         -- a hash of the next three, which they are looked up by
    workspace_id TEXT NOT NULL,
    kind TEXT NOT NULL,            -- knowledge | overview | memory | tombstone | session
    key TEXT NOT NULL,             -- path or session id
    etag NOT NULL,                 -- of what is indexed, SHA-256 as 32 bytes; empty: nothing, the source is gone
    title TEXT NOT NULL,
    at TEXT NOT NULL,              -- of a document its last change, of a session its begin
    ended_at TEXT NOT NULL,
    agent TEXT NOT NULL,           -- whose reader read it
    lines INTEGER NOT NULL,        -- whole lines that are indexed
    raw_bytes INTEGER NOT NULL,    -- that these are
    sealed_line INTEGER NOT NULL,  -- where the last member of the archive began that may be written anew
    sealed_bytes INTEGER NOT NULL,
    sealed_sha256 BLOB NOT NULL,   -- of all raw bytes before it
    tail_sha256 BLOB NOT NULL,     -- of those from there to `raw_bytes`
    unread INTEGER NOT NULL,       -- lines over 4 MiB and damaged parts, which are not indexed
    facts TEXT NOT NULL,           -- what stands in `heads` beside the title, workspace and key
    worth INTEGER NOT NULL,        -- importance, 1 to 5; 3 for all but memories
    generation INTEGER NOT NULL
);
CREATE INDEX sources_mark ON sources (mark);
CREATE INDEX sources_generation ON sources (generation);

CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    source INTEGER NOT NULL,       -- 0: dead
    first_row INTEGER NOT NULL,
    is_open INTEGER NOT NULL,      -- 1: an unterminated last line
    first_at TEXT NOT NULL,
    last_at TEXT NOT NULL,
    lines BLOB NOT NULL,           -- of each row, 4 bytes
    shapes BLOB NOT NULL,          -- of each row its speaker and size, 1 byte
    generation INTEGER NOT NULL
);
CREATE INDEX segments_source ON segments (source);
CREATE INDEX segments_generation ON segments (generation);

CREATE VIRTUAL TABLE spoken USING fts5(
    text, tokenize = 'porter unicode61 remove_diacritics 2', content = '', columnsize = 0
);
-- What a transaction adds, written at once: in smaller parts it is merged more often.
INSERT INTO spoken (spoken, rank) VALUES ('hashsize', 2097152);
-- The distinct words of `spoken` and `noted` as they are written, and what they are found by from their inside.
CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE);
CREATE VIRTUAL TABLE word_grams USING fts5(word, tokenize = 'trigram', content = '', columnsize = 0, detail = none);
-- Documents change often, and only a table that keeps their text can forget it.
CREATE VIRTUAL TABLE written USING fts5(text, tokenize = 'porter unicode61 remove_diacritics 2', columnsize = 0);
-- Memories are many and short, and hardly ever change.
CREATE VIRTUAL TABLE noted USING fts5(
    text, tokenize = 'porter unicode61 remove_diacritics 2', content = '', columnsize = 0
);
-- What it holds of a source is told by the source's row, so it need not keep it to forget it.
CREATE VIRTUAL TABLE heads USING fts5(
    title, facts, tokenize = 'porter unicode61 remove_diacritics 2', content = '', columnsize = 0
);
-- While nothing else is to do, parts of a table are merged as soon as there are three of about the same size.
INSERT INTO spoken (spoken, rank) VALUES ('usermerge', 3);
INSERT INTO noted (noted, rank) VALUES ('usermerge', 3);
INSERT INTO written (written, rank) VALUES ('usermerge', 3);
INSERT INTO heads (heads, rank) VALUES ('usermerge', 3);
INSERT INTO word_grams (word_grams, rank) VALUES ('usermerge', 3);
