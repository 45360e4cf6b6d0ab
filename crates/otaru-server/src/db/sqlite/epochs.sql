-- Places of a device's newest reports: of its last four epochs, the newest last, each as epoch:boots:n; separated by spaces.
ALTER TABLE devices ADD COLUMN epochs TEXT NOT NULL DEFAULT '';
-- Order of the offer that a deployment made last, and which start of it that was: the same offer is repeated with the same order.
ALTER TABLE deployments ADD COLUMN offer_order INTEGER;
ALTER TABLE deployments ADD COLUMN offer_start INTEGER;
