-- Certificates that devices have logged in with, by serial number of their authority. `refused` says why one is good no more: 'retired'
-- until its device is taken back, 'replaced' for good.
CREATE TABLE device_certificates (
    serial     TEXT PRIMARY KEY,
    device     TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    refused    TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX device_certificates_by_device ON device_certificates (device);
