-- How far the clock of a server was ahead of this database's when it was last seen, in milliseconds; NULL for servers that do not tell.
ALTER TABLE servers ADD COLUMN clock_ahead BIGINT;
