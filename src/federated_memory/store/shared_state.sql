-- Shared state: every change of a key, and the newest of each that is there. One counter numbers all of them.
CREATE TABLE IF NOT EXISTS state_changes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,   -- the version; never given twice, also after a restore
    key TEXT NOT NULL,
    operation TEXT NOT NULL,                    -- set | delete | expire
    value BLOB,                                 -- JSON; NULL: the key is gone
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    source TEXT NOT NULL,
    workspace_id TEXT NOT NULL,                 -- that the writer was bound to
    expires_at REAL                             -- NULL: never
);
CREATE INDEX IF NOT EXISTS state_changes_key ON state_changes (key, number);
CREATE TABLE IF NOT EXISTS state_keys (
    key TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    expires_at REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS state_keys_expiry ON state_keys (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS state_schemas (
    pattern TEXT PRIMARY KEY,                   -- a key, or a glob of keys
    version INTEGER NOT NULL,
    text BLOB NOT NULL,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    workspace_id TEXT NOT NULL
) WITHOUT ROWID;
