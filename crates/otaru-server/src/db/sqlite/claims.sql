-- Until when an admin lets a device that is known be claimed again with a fleet key.
ALTER TABLE devices ADD COLUMN claim_until INTEGER;
