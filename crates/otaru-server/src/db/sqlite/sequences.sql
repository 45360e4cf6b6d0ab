-- The highest sequence that a device is known to have run, confirmed: it takes no lower one where signatures count.
ALTER TABLE devices ADD COLUMN had INTEGER NOT NULL DEFAULT 0;
-- The sequence of the release when the device was offered it last.
ALTER TABLE deployments ADD COLUMN offered INTEGER;
-- The sequence that a release had first: with a higher one it was signed again.
ALTER TABLE releases ADD COLUMN first_sequence INTEGER;
UPDATE releases SET first_sequence = sequence;
UPDATE devices SET had = coalesce((
    SELECT max(r.sequence) FROM deployments p JOIN releases r ON r.image = unhex(json_extract(p.state, '$.image'))
    WHERE p.device = devices.id AND p.standing IN ('succeeded', 'current')), 0);
CREATE INDEX devices_by_had ON devices (product, had);
