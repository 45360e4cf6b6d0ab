-- Whether a server had its connection to the broker when it was last seen, and since when that is so, in milliseconds; NULL for servers that do
-- not tell.
ALTER TABLE servers ADD COLUMN broker_there BOOLEAN;
ALTER TABLE servers ADD COLUMN broker_since BIGINT;
