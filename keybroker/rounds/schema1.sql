-- Version 1 of the schema of federated rounds. It was released and is never changed.
CREATE TABLE fed_rounds (
	id      bytea  PRIMARY KEY CHECK (length(id) = 16),
	seq     bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
	version bigint NOT NULL,
	record  bytea  NOT NULL
);
CREATE TABLE fed_ledgers (
	model   text   PRIMARY KEY,
	charges bigint NOT NULL CHECK (charges >= 0),
	last    bytea  NOT NULL CHECK (length(last) = 32)
);
CREATE TABLE fed_charges (
	model  text   NOT NULL REFERENCES fed_ledgers,
	n      bigint NOT NULL CHECK (n > 0),
	round  bytea  NOT NULL UNIQUE REFERENCES fed_rounds,
	charge bytea  NOT NULL,
	PRIMARY KEY (model, n)
);
CREATE FUNCTION fed_keep() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'rounds and charges are never removed or rewritten'; END $$;
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON fed_charges FOR EACH STATEMENT EXECUTE FUNCTION fed_keep();
CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON fed_ledgers FOR EACH STATEMENT EXECUTE FUNCTION fed_keep();
CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON fed_rounds FOR EACH STATEMENT EXECUTE FUNCTION fed_keep();
