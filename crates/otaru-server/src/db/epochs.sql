-- Places of a device's newest reports: of its last four epochs, the newest last, each as epoch:boots:n; separated by spaces.
ALTER TABLE devices ADD COLUMN epochs TEXT NOT NULL DEFAULT '';
