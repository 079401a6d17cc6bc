CREATE TABLE schema_versions (id INTEGER PRIMARY KEY, version INTEGER UNIQUE NOT NULL, applied_at TEXT NOT NULL);
CREATE TABLE sdk_sessions (id INTEGER PRIMARY KEY AUTOINCREMENT, content_session_id TEXT UNIQUE NOT NULL,
  memory_session_id TEXT UNIQUE, project TEXT NOT NULL, platform_source TEXT NOT NULL DEFAULT 'claude', user_prompt TEXT,
  started_at TEXT NOT NULL, started_at_epoch INTEGER NOT NULL, completed_at TEXT, completed_at_epoch INTEGER,
  status TEXT NOT NULL DEFAULT 'active', worker_port INTEGER, prompt_counter INTEGER DEFAULT 0, custom_title TEXT);
CREATE TABLE observations (id INTEGER PRIMARY KEY AUTOINCREMENT, memory_session_id TEXT NOT NULL, project TEXT NOT NULL,
  text TEXT, type TEXT NOT NULL, title TEXT, subtitle TEXT, facts TEXT, narrative TEXT, concepts TEXT, files_read TEXT,
  files_modified TEXT, prompt_number INTEGER, discovery_tokens INTEGER DEFAULT 0, content_hash TEXT, created_at TEXT NOT NULL,
  created_at_epoch INTEGER NOT NULL);
CREATE TABLE session_summaries (id INTEGER PRIMARY KEY AUTOINCREMENT, memory_session_id TEXT NOT NULL, project TEXT NOT NULL,
  request TEXT, investigated TEXT, learned TEXT, completed TEXT, next_steps TEXT, files_read TEXT, files_edited TEXT, notes TEXT,
  prompt_number INTEGER, discovery_tokens INTEGER DEFAULT 0, created_at TEXT NOT NULL, created_at_epoch INTEGER NOT NULL);
CREATE TABLE user_prompts (id INTEGER PRIMARY KEY AUTOINCREMENT, content_session_id TEXT NOT NULL, prompt_number INTEGER NOT NULL,
  prompt_text TEXT NOT NULL, created_at TEXT NOT NULL, created_at_epoch INTEGER NOT NULL);
CREATE TABLE observation_feedback (id INTEGER PRIMARY KEY AUTOINCREMENT, observation_id INTEGER NOT NULL,
  signal_type TEXT NOT NULL, session_db_id INTEGER, created_at_epoch INTEGER NOT NULL, metadata TEXT);
CREATE TABLE directives (id INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL DEFAULT 'global', project TEXT,
  content TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'active', source TEXT NOT NULL DEFAULT 'manual', created_at TEXT NOT NULL,
  created_at_epoch INTEGER NOT NULL, updated_at_epoch INTEGER NOT NULL);
INSERT INTO schema_versions VALUES (1, 35, '2026-05-01T08:00:00.000Z');
INSERT INTO sdk_sessions (content_session_id, memory_session_id, project, started_at, started_at_epoch, status, prompt_counter)
  VALUES ('3F2504E0-4F89-11D3-9A0C-0305E82C3301', 'mem-1', 'shop', '2026-05-01T08:00:00.000Z', 1777622400000, 'completed', 2);
INSERT INTO observations (memory_session_id, project, type, title, subtitle, facts, narrative, concepts, files_read,
  files_modified, prompt_number, discovery_tokens, content_hash, created_at, created_at_epoch)
  VALUES ('mem-1', 'shop', 'bugfix', 'Mails were sent twice', 'The worker retried too early',
  '["The lock lasted 5 s","Sending lasts up to 20 s"]', 'The lock is held for 60 s now.', '["gotcha","problem-solution"]',
  '["src/mail.py"]', '["src/worker.py","src/mail.py"]', 1, 812, 'a1b2c3', '2026-05-01T08:10:00.000Z', 1777623000000);
INSERT INTO observations (memory_session_id, project, text, type, title, created_at, created_at_epoch)
  VALUES ('mem-1', 'shop', 'Old style text', 'discovery', NULL, '2026-05-01T08:20:00.000Z', 1777623600000);
INSERT INTO session_summaries (memory_session_id, project, request, learned, next_steps, files_edited, created_at, created_at_epoch)
  VALUES ('mem-1', 'shop', 'Stop double mails', 'The lock was too short', 'Watch the log', '["src/worker.py"]',
  '2026-05-01T09:00:00.000Z', 1777626000000);
INSERT INTO user_prompts (content_session_id, prompt_number, prompt_text, created_at, created_at_epoch)
  VALUES ('3F2504E0-4F89-11D3-9A0C-0305E82C3301', 1, 'why are mails sent twice?', '2026-05-01T08:00:01.000Z', 1777622401000);
INSERT INTO user_prompts (content_session_id, prompt_number, prompt_text, created_at, created_at_epoch)
  VALUES ('lost-session', 1, 'a prompt whose session is gone', '2026-05-02T08:00:01.000Z', 1777708801000);
INSERT INTO observation_feedback (observation_id, signal_type, created_at_epoch) VALUES (1, 'opened', 1777623001000);
INSERT INTO directives (content, created_at, created_at_epoch, updated_at_epoch)
  VALUES ('Answer in German', '2026-05-01T07:00:00.000Z', 1777618800000, 1777618800000);
