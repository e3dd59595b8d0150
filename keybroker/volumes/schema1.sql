-- Version 1 of the schema of volumes. It was released and is never changed.
CREATE TABLE vol_volumes (
	volume     text   PRIMARY KEY,
	version    bigint NOT NULL CHECK (version > 0),
	generation bigint NOT NULL CHECK (generation >= 0),
	entry      bytea  NOT NULL
);
CREATE FUNCTION vol_keep() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RAISE EXCEPTION 'volumes are never removed'; END $$;
CREATE FUNCTION vol_forward() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN
		IF NEW.volume <> OLD.volume OR NEW.version <> OLD.version + 1 OR NEW.generation < OLD.generation THEN
			RAISE EXCEPTION 'a volume does not go back';
		END IF;
		RETURN NEW;
	END $$;
CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON vol_volumes FOR EACH STATEMENT EXECUTE FUNCTION vol_keep();
CREATE TRIGGER forward BEFORE UPDATE ON vol_volumes FOR EACH ROW EXECUTE FUNCTION vol_forward();
