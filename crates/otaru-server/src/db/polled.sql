-- Devices that report over HTTP are looked for every minute; in most fleets they are none.
CREATE INDEX devices_polled ON devices (polled_at) WHERE polled_at IS NOT NULL;
