-- Who this node is: origin (a random id), epoch (raised when a root is restored from a backup).
CREATE TABLE node (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- The change feed.
CREATE TABLE changes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    epoch INTEGER NOT NULL,
    workspace_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL,            -- workspace | knowledge | overview | session
    key TEXT NOT NULL,             -- path or session id
    operation TEXT NOT NULL,
    version INTEGER,
    etag TEXT,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    source TEXT NOT NULL,          -- the address the request came from
    UNIQUE (workspace_id, sequence)
);

-- What the files of knowledge and overviews held when they were last seen.
CREATE TABLE documents (
    workspace_id TEXT NOT NULL,
    kind TEXT NOT NULL,            -- knowledge | overview
    path TEXT NOT NULL,
    folded TEXT NOT NULL,          -- empty for memories, whose names are ours
    version INTEGER NOT NULL,
    etag TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    title TEXT NOT NULL,           -- empty for memories: their subject is in their own table
    updated_at TEXT NOT NULL,
    stamp TEXT NOT NULL,           -- size, mtime and inode of the file: equal means unchanged
    deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace_id, kind, path)
) WITHOUT ROWID;
CREATE INDEX documents_folded ON documents (workspace_id, kind, folded) WHERE deleted = 0 AND folded <> '';

-- Document writes that are acknowledged, but whose files may not be durable yet.
CREATE TABLE journal (
    number INTEGER PRIMARY KEY,    -- of the change
    workspace_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    path TEXT NOT NULL,
    version INTEGER NOT NULL,
    etag TEXT NOT NULL,
    replaced_etag TEXT,            -- what the file held before; NULL: it did not exist
    operation TEXT NOT NULL,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    source TEXT NOT NULL,
    text BLOB                      -- NULL: a deletion
);
CREATE INDEX journal_document ON journal (workspace_id, kind, path);

-- Session transcripts: the current one (current = 1), and the ones that diverging uploads replaced.
CREATE TABLE archives (
    id INTEGER PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    current INTEGER NOT NULL,
    file TEXT NOT NULL,            -- below sessions/
    sha256 TEXT NOT NULL,          -- of the raw bytes
    raw_bytes INTEGER NOT NULL,
    gzip_bytes INTEGER NOT NULL,
    lines INTEGER NOT NULL,        -- an unterminated last line counts
    has_open_line INTEGER NOT NULL, -- 1: the last line is unterminated
    agent TEXT NOT NULL,
    native_id TEXT NOT NULL,
    title TEXT NOT NULL,
    cwd TEXT NOT NULL,
    started_at TEXT NOT NULL,      -- when unknown: the time of the upload
    ended_at TEXT NOT NULL,        -- empty when unknown
    updated_at TEXT NOT NULL,
    modified_ns INTEGER NOT NULL,  -- of the file when it was last seen; another value or size: it was changed by hand
    inode INTEGER NOT NULL,
    UNIQUE (workspace_id, session_id, revision)
);
CREATE INDEX archives_newest ON archives (workspace_id, current, started_at, session_id);
CREATE INDEX archives_content ON archives (sha256, raw_bytes);

CREATE TABLE members (
    archive_id INTEGER NOT NULL REFERENCES archives (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    first_line INTEGER NOT NULL,
    raw_offset INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL,
    gzip_offset INTEGER NOT NULL,
    gzip_bytes INTEGER NOT NULL,
    sha256_so_far BLOB NOT NULL,   -- of all raw bytes up to this member's end
    PRIMARY KEY (archive_id, number)
) WITHOUT ROWID;
CREATE INDEX members_line ON members (archive_id, first_line);

-- Counts per workspace, kept by triggers so that no list has to count.
CREATE TABLE counts (
    workspace_id TEXT PRIMARY KEY,
    documents INTEGER NOT NULL DEFAULT 0,
    sessions INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    last_activity TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;

CREATE TRIGGER changes_count AFTER INSERT ON changes BEGIN
    INSERT INTO counts (workspace_id, last_activity) VALUES (new.workspace_id, new.at)
    ON CONFLICT (workspace_id) DO UPDATE SET last_activity = max(last_activity, excluded.last_activity);
END;
CREATE TRIGGER documents_count_insert AFTER INSERT ON documents WHEN new.kind = 'knowledge' AND new.deleted = 0 BEGIN
    INSERT INTO counts (workspace_id, documents, bytes) VALUES (new.workspace_id, 1, new.bytes)
    ON CONFLICT (workspace_id) DO UPDATE SET documents = documents + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER documents_count_update AFTER UPDATE ON documents WHEN new.kind = 'knowledge' BEGIN
    UPDATE counts SET
        documents = documents + old.deleted - new.deleted,
        bytes = bytes - old.bytes * (1 - old.deleted) + new.bytes * (1 - new.deleted)
    WHERE workspace_id = new.workspace_id;
END;
CREATE TRIGGER archives_count_insert AFTER INSERT ON archives WHEN new.current = 1 BEGIN
    INSERT INTO counts (workspace_id, sessions, bytes) VALUES (new.workspace_id, 1, new.raw_bytes)
    ON CONFLICT (workspace_id) DO UPDATE SET sessions = sessions + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER archives_count_update AFTER UPDATE ON archives BEGIN
    UPDATE counts SET
        sessions = sessions - old.current + new.current,
        bytes = bytes - old.raw_bytes * old.current + new.raw_bytes * new.current
    WHERE workspace_id = new.workspace_id;
END;
CREATE TRIGGER archives_count_delete AFTER DELETE ON archives WHEN old.current = 1 BEGIN
    UPDATE counts SET sessions = sessions - 1, bytes = bytes - old.raw_bytes WHERE workspace_id = old.workspace_id;
END;
