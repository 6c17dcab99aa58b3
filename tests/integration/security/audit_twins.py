"""Twins of the link between audit entries."""

UNLOCKED = """
CREATE OR REPLACE FUNCTION link_audit_entry() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    number bigint;
    previous bytea;
    linked bytea;
BEGIN
    SELECT head.seq + 1, head.hash INTO number, previous
        FROM audit_heads AS head WHERE head.user_id = NEW.user_id;
    number := coalesce(number, 1);
    previous := coalesce(previous, decode(repeat('00', 32), 'hex'));
    -- Another writer may come here; the pause only makes that certain.
    PERFORM pg_sleep(0.02);
    linked := audit_hash(previous, number, NEW);
    INSERT INTO audit_links (user_id, seq, entry_id, hash)
        VALUES (NEW.user_id, number, NEW.id, linked);
    INSERT INTO audit_heads VALUES (NEW.user_id, number, linked)
        ON CONFLICT (user_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash;
    RETURN NULL;
END
$$
"""
"""Reads the head without locking it, then writes: the catalogue's A12."""

TWO_OF_A_NUMBER = "ALTER TABLE audit_links DROP CONSTRAINT audit_links_pkey"
"""The key would turn each fork into a failed request; without it there are forks."""

EARLY = "SET CONSTRAINTS link_audit_entry IMMEDIATE"
"""Links as the entry is written, and holds the head through the rest of the work."""
