-- Moments are milliseconds since 1970-01-01 UTC. Digests are SHA-256, 32 bytes. `revision` counts changes, for compare-and-set.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What is known of each device; its id is its name in MQTT topics.
CREATE TABLE devices (
    id           TEXT PRIMARY KEY,
    label        TEXT,                          -- what people call it, if not by its id
    first_seen   INTEGER NOT NULL,
    last_seen    INTEGER,                       -- when something of it was last written here
    reachable    INTEGER NOT NULL DEFAULT 0,
    polled_at    INTEGER,                       -- when it last reported over HTTP, if it does
    -- Of its last report; empty and NULL before the first.
    chip         TEXT NOT NULL DEFAULT '',
    product      TEXT NOT NULL DEFAULT '',
    version      TEXT NOT NULL DEFAULT '',
    image        BLOB,
    state        TEXT NOT NULL DEFAULT 'unknown',
    error_code   TEXT,
    report       TEXT,                          -- all of it, as JSON
    reported_at  INTEGER,
    -- The rollout whose deployment is active: `otaru_rollout::Occupancy`.
    active       INTEGER,
    -- Its own secret, hashed; or the fleet key that it came with.
    secret       BLOB,
    fleet_key    TEXT REFERENCES fleet_keys (id),
    retired_at   INTEGER,
    revision     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX devices_by_version ON devices (product, version) WHERE retired_at IS NULL;
CREATE INDEX devices_by_image ON devices (image) WHERE retired_at IS NULL;
CREATE INDEX devices_by_state ON devices (state) WHERE retired_at IS NULL;

CREATE TABLE device_tags (
    device TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (device, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_tags_by_name ON device_tags (name, value);

-- What happened to devices; the oldest go.
CREATE TABLE device_events (
    id      INTEGER PRIMARY KEY,
    device  TEXT NOT NULL,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,                      -- 'report', 'online', 'offline', 'tags' …
    detail  TEXT NOT NULL                       -- JSON, what depends on the kind
) STRICT;
CREATE INDEX device_events_by_device ON device_events (device, id);

-- Files by their content; the bytes are beside the database.
CREATE TABLE artifacts (
    digest  BLOB PRIMARY KEY,
    size    INTEGER NOT NULL,
    used_at INTEGER NOT NULL                    -- when it came, came again, or ceased to be a release's
) STRICT, WITHOUT ROWID;

CREATE TABLE releases (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    image      BLOB NOT NULL UNIQUE,            -- digest of the image itself: what devices report
    product    TEXT NOT NULL,
    version    TEXT NOT NULL,
    chip       TEXT NOT NULL,
    image_size INTEGER NOT NULL,
    raw        BLOB REFERENCES artifacts (digest),  -- the image as a file, where there is one
    file       BLOB REFERENCES artifacts (digest),  -- the release file that devices are sent to, where there is one
    built      INTEGER NOT NULL DEFAULT 0,      -- whether this server made that file
    signed_by  TEXT,                            -- key id of that file
    sequence   INTEGER,                         -- kept from the first file or build on; it only grows
    compressed INTEGER,                         -- bytes of that file's compressed payload
    notes      TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    yanked_at  INTEGER
) STRICT;
CREATE INDEX releases_by_version ON releases (product, chip, version);

-- From which images the release's file has a patch, and how long it is; NULL where one was tried and would not have been smaller
-- than the image.
CREATE TABLE deltas (
    release INTEGER NOT NULL REFERENCES releases (id),
    base    BLOB NOT NULL,
    size    INTEGER,
    PRIMARY KEY (release, base)
) STRICT, WITHOUT ROWID;

-- Work in the background; it is begun anew after a restart.
CREATE TABLE jobs (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    release    INTEGER NOT NULL REFERENCES releases (id),
    kind       TEXT NOT NULL,                   -- 'build', or 'replace': also a file that was signed elsewhere
    state      TEXT NOT NULL,                   -- 'queued', 'running', 'done', 'failed'
    detail     TEXT NOT NULL DEFAULT '',        -- the stage, or why it failed
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT;
CREATE INDEX jobs_open ON jobs (state) WHERE state IN ('queued', 'running');

CREATE TABLE rollouts (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    release    INTEGER REFERENCES releases (id),    -- NULL for one that takes another back
    state      TEXT NOT NULL,                   -- `otaru_rollout::Rollout` as JSON
    phase      TEXT NOT NULL,
    is_open    INTEGER NOT NULL,                -- whether devices may join
    is_alive   INTEGER NOT NULL,                -- whether there may be something to do about it
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    revision   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX rollouts_by_phase ON rollouts (phase);
CREATE INDEX rollouts_open ON rollouts (id) WHERE is_open;
CREATE INDEX rollouts_alive ON rollouts (id) WHERE is_alive;

CREATE TABLE rollout_events (
    id      INTEGER PRIMARY KEY,
    rollout INTEGER NOT NULL REFERENCES rollouts (id),
    at      INTEGER NOT NULL,
    actor   TEXT,                               -- NULL where the server itself did it
    event   TEXT NOT NULL                       -- JSON: a notice of the engine, or what an operator did
) STRICT;
CREATE INDEX rollout_events_by_rollout ON rollout_events (rollout, id);

CREATE TABLE deployments (
    rollout    INTEGER NOT NULL REFERENCES rollouts (id),
    device     TEXT NOT NULL REFERENCES devices (id),
    state      TEXT NOT NULL,                   -- `otaru_rollout::Deployment` as JSON
    standing   TEXT NOT NULL,                   -- `Standing::as_str`
    is_open    INTEGER NOT NULL,                -- whether it is not over
    wave       INTEGER NOT NULL,
    starts     INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    wake_at    INTEGER,                         -- when to tick it
    not_before INTEGER,                         -- the end of a pause after a failure
    error_code TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (rollout, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX deployments_by_device ON deployments (device, rollout);
CREATE INDEX deployments_open ON deployments (device, rollout) WHERE is_open;
CREATE INDEX deployments_ready ON deployments (rollout, standing, wave, starts, position);
CREATE INDEX deployments_due ON deployments (wake_at) WHERE wake_at IS NOT NULL;

-- What is still to be told to devices: written with the transition that asks for it, deleted when the broker has it.
CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    device     TEXT NOT NULL,
    message    TEXT NOT NULL,                   -- JSON: an offer by image, or a cancellation
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    role       TEXT NOT NULL,
    hash       BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    used_at    INTEGER,
    revoked_at INTEGER
) STRICT;

-- Secrets with which devices that are not known yet may come.
CREATE TABLE fleet_keys (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    hash       BLOB NOT NULL,
    tags       TEXT NOT NULL DEFAULT '{}',      -- JSON: what devices that come with it are tagged with
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE audit (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,                       -- 'rollout.pause' …
    object TEXT NOT NULL,                       -- 'rollout/17' …
    detail TEXT NOT NULL DEFAULT '{}'           -- JSON
) STRICT;

-- Answers to requests with an Idempotency-Key.
CREATE TABLE idempotency (
    actor   TEXT NOT NULL,
    key     TEXT NOT NULL,
    request BLOB NOT NULL,                      -- digest of what was asked
    status  INTEGER NOT NULL,
    body    TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (actor, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (at);
