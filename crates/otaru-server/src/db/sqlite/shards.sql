-- The shard of the device, 0 to 255, as where several servers share a database; one that has it to itself sends for all.
ALTER TABLE outbox ADD COLUMN shard INTEGER;
