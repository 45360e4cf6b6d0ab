-- How many devices there are that are not retired: kept up to date here, so that nobody counts a fleet to let one more in.
CREATE TABLE counts (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counts (name, value) SELECT 'devices', count(*) FROM devices WHERE retired_at IS NULL;
CREATE TRIGGER devices_came AFTER INSERT ON devices WHEN NEW.retired_at IS NULL BEGIN
    UPDATE counts SET value = value + 1 WHERE name = 'devices';
END;
CREATE TRIGGER devices_went AFTER DELETE ON devices WHEN OLD.retired_at IS NULL BEGIN
    UPDATE counts SET value = value - 1 WHERE name = 'devices';
END;
CREATE TRIGGER devices_retired AFTER UPDATE OF retired_at ON devices
WHEN (OLD.retired_at IS NULL) <> (NEW.retired_at IS NULL) BEGIN
    UPDATE counts SET value = value + iif(NEW.retired_at IS NULL, 1, -1) WHERE name = 'devices';
END;
-- How many devices came with a fleet key for the first time, and how many may; NULL for what the server allows.
ALTER TABLE fleet_keys ADD COLUMN devices INTEGER NOT NULL DEFAULT 0;
ALTER TABLE fleet_keys ADD COLUMN max_devices INTEGER;
UPDATE fleet_keys SET devices = (SELECT count(*) FROM devices WHERE fleet_key = fleet_keys.id);
