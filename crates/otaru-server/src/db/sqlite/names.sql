-- Name of the file that a release came in, as who uploaded it calls it; and what its header says of boards (JSON).
ALTER TABLE releases ADD COLUMN filename TEXT;
ALTER TABLE releases ADD COLUMN needs TEXT;
-- What a device runs is called as the release of that image is, where there is one.
UPDATE devices SET version = (SELECT r.version FROM releases r WHERE r.image = devices.image)
    WHERE EXISTS (SELECT 1 FROM releases r WHERE r.image = devices.image AND r.version <> devices.version);
CREATE INDEX devices_retired_by_image ON devices (image) WHERE retired_at IS NOT NULL;
-- Which devices refused which firmware for their flash, their chip or their slot.
CREATE INDEX deployments_unfit ON deployments (device) WHERE error_code IN ('flash_too_small', 'too_large', 'wrong_revision');
