-- What was looked up within JSON has columns of its own. Of a device's last report: the number of its attempt, whether the image is
-- confirmed, and which CAs it trusts (JSON). Of a deployment: its image.
ALTER TABLE devices ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN confirmed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN trusts TEXT;
UPDATE devices SET attempt = coalesce(json_extract(report, '$.attempt'), 0),
    confirmed = coalesce(json_extract(report, '$.confirmed'), 0), trusts = json_extract(report, '$.tls.trusts')
    WHERE json_valid(report);
ALTER TABLE deployments ADD COLUMN image BLOB;
UPDATE deployments SET image = unhex(json_extract(state, '$.image')) WHERE json_valid(state);
CREATE INDEX devices_by_trusts ON devices (trusts) WHERE retired_at IS NULL AND trusts IS NOT NULL;
