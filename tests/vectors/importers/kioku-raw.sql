BEGIN TRANSACTION;
CREATE TABLE local_obs (
    observation_id TEXT PRIMARY KEY,
    payload_json TEXT NOT NULL,
    created_at TEXT
);
INSERT INTO "local_obs" VALUES('3579934ad6644b52b766d6ee511d56b9','{"content": "Mails are written to the outbox table and sent by the worker.\nA failed send is tried again after 5 minutes.", "agent_family": "claude", "client_id": "ann@laptop", "pc_id": "a9888dbdb8054076b8337a87175e3fe3", "session_id": "20261121T181227Z-a0b2984c", "project": "shop", "tags": ["mail", "outbox"], "observation_id": "3579934ad6644b52b766d6ee511d56b9", "created_at": "2026-11-21T18:12:27.131092Z", "memory_type": "decision", "importance": 4, "subject": "Queue for mail", "summary": "Mails go through the outbox table", "source_files": ["src/mail.py", "src/outbox.py"], "references": ["#67"], "supersedes": [], "visibility": "mesh", "scope_id": "", "expires_at": ""}','2026-11-21T18:12:27.131092Z');
INSERT INTO "local_obs" VALUES('0224b04d0cf54136852c6ca65622a8d6','{"content": "Der Zähler lief über; 数え直す必要がある。", "agent_family": "claude", "client_id": "ann@laptop", "pc_id": "a9888dbdb8054076b8337a87175e3fe3", "session_id": "20261121T181227Z-cf20e20d", "project": "zähler", "tags": [], "observation_id": "0224b04d0cf54136852c6ca65622a8d6", "created_at": "2026-11-21T18:12:27.675099Z", "memory_type": "bug", "importance": 3, "subject": "Überlauf im Zähler", "summary": "Zähler läuft über bei 2^31", "source_files": [], "references": [], "supersedes": [], "visibility": "mesh", "scope_id": "", "expires_at": ""}','2026-11-21T18:12:27.675099Z');
INSERT INTO "local_obs" VALUES('f39aa60c6a2f404ab010da7383b01950','{"content": "This is wrong.", "agent_family": "claude", "client_id": "ann@laptop", "pc_id": "a9888dbdb8054076b8337a87175e3fe3", "session_id": "20261121T181227Z-02b9735e", "project": "shop", "tags": [], "observation_id": "f39aa60c6a2f404ab010da7383b01950", "created_at": "2026-11-21T18:12:27.822612Z", "memory_type": "note", "importance": 2, "subject": "To be deleted", "summary": "A note that was deleted", "source_files": [], "references": [], "supersedes": [], "visibility": "mesh", "scope_id": "", "expires_at": ""}','2026-11-21T18:12:27.822612Z');
INSERT INTO "local_obs" VALUES('b00f13c8c9d64fce9de7be1ce36e9a82','{"content": "The outbox was too slow: Redis streams since May.", "agent_family": "claude", "client_id": "ann@laptop", "pc_id": "a9888dbdb8054076b8337a87175e3fe3", "session_id": "20261121T181438Z-58cd93d0", "project": "shop", "tags": [], "observation_id": "b00f13c8c9d64fce9de7be1ce36e9a82", "created_at": "2026-11-21T18:14:38.124262Z", "memory_type": "decision", "importance": 5, "subject": "Queue for mail", "summary": "Mails go through Redis streams", "source_files": [], "references": [], "supersedes": ["3579934ad6644b52b766d6ee511d56b9"], "visibility": "user", "scope_id": "ann", "expires_at": ""}','2026-11-21T18:14:38.124262Z');
CREATE TABLE local_tomb (
    observation_id TEXT PRIMARY KEY,
    tomb_json TEXT NOT NULL,
    deleted_at TEXT
);
INSERT INTO "local_tomb" VALUES('f39aa60c6a2f404ab010da7383b01950','{"observation_id": "f39aa60c6a2f404ab010da7383b01950", "reason": "it was wrong", "deleted_at": "2026-11-21T18:13:43.016586Z"}','2026-11-21T18:13:43.016586Z');
CREATE TABLE migration_meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
INSERT INTO "migration_meta" VALUES('index_db_migrated_from=/home/ann/.kioku/local/index.db','2026-11-21T18:12:27.677197Z');
CREATE TABLE raw_schema_version (
    version INTEGER PRIMARY KEY
);
INSERT INTO "raw_schema_version" VALUES(1);
COMMIT;
