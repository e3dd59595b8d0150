-- Version 2 of the schema of federated rounds: the lists of open rounds, with an index for each question that
-- admission asks. A round that is open no more has its list in its record, and nothing here.
CREATE TABLE fed_members (
	round        bytea  NOT NULL REFERENCES fed_rounds,
	n            bigint NOT NULL CHECK (n > 0),
	contribution bytea,
	agent        bytea,
	upload       bytea,
	chip         bytea,
	member       bytea,
	PRIMARY KEY (round, n),
	UNIQUE (round, contribution),
	UNIQUE (round, agent),
	UNIQUE (round, upload)
);
CREATE INDEX fed_members_chip ON fed_members (round, chip);
