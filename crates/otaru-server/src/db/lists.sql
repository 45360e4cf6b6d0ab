-- Lists of devices: one for each order that they may have, and those by which a list begins with what few are. SQLite and PostgreSQL alike.
CREATE INDEX devices_as_listed ON devices (id, label) WHERE retired_at IS NULL;
CREATE INDEX devices_as_called ON devices (coalesce(label, id), id) WHERE retired_at IS NULL;
CREATE INDEX devices_as_seen ON devices (coalesce(last_seen, 0), id) WHERE retired_at IS NULL;
CREATE INDEX devices_by_version_alone ON devices (version, id) WHERE retired_at IS NULL;
CREATE INDEX devices_in_state ON devices (state, id) WHERE retired_at IS NULL;
CREATE INDEX devices_by_chip ON devices (chip, id) WHERE retired_at IS NULL;
CREATE INDEX devices_by_reachable ON devices (reachable, id) WHERE retired_at IS NULL;
CREATE INDEX devices_by_error ON devices (error_code, id) WHERE retired_at IS NULL AND error_code IS NOT NULL;
CREATE INDEX devices_retired ON devices (id) WHERE retired_at IS NOT NULL;
-- Last, as nobody reads devices from here to the end of this step.
DROP INDEX devices_by_state;
