-- The fleet key that a device came with, which stays when it gets a password of its own; and how many devices of each key are not retired.
ALTER TABLE devices ADD COLUMN came_with TEXT REFERENCES fleet_keys (id);
UPDATE devices SET came_with = fleet_key;
ALTER TABLE fleet_keys ADD COLUMN living INTEGER NOT NULL DEFAULT 0;
UPDATE fleet_keys SET living = (SELECT count(*) FROM devices WHERE came_with = fleet_keys.id AND retired_at IS NULL);
CREATE TRIGGER devices_came_with AFTER INSERT ON devices WHEN NEW.came_with IS NOT NULL BEGIN
    UPDATE fleet_keys SET living = living + 1 WHERE id = NEW.came_with AND NEW.retired_at IS NULL;
END;
CREATE TRIGGER devices_go_from_their_key AFTER DELETE ON devices WHEN OLD.came_with IS NOT NULL BEGIN
    UPDATE fleet_keys SET living = living - 1 WHERE id = OLD.came_with AND OLD.retired_at IS NULL;
END;
CREATE TRIGGER devices_count_for_their_key AFTER UPDATE OF came_with, retired_at ON devices BEGIN
    UPDATE fleet_keys SET living = living - 1 WHERE id = OLD.came_with AND OLD.retired_at IS NULL;
    UPDATE fleet_keys SET living = living + 1 WHERE id = NEW.came_with AND NEW.retired_at IS NULL;
END;
