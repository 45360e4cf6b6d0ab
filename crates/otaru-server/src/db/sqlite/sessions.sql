-- Logins of the dashboard. A session is as good as the token that opened it.
CREATE TABLE sessions (
    hash       BLOB PRIMARY KEY,                -- of what the cookie has
    token      TEXT NOT NULL REFERENCES tokens (id),
    created_at INTEGER NOT NULL,
    used_at    INTEGER NOT NULL                 -- to the hour
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_token ON sessions (token);
