-- Version 3: clusters of two Regions. `second_key` and `second_canary` are those of the backup
-- Region; a cluster of one Region has neither, nor a word on what a refusal by one of two keys does.
-- `regions.s3_endpoint` is where a Region's node served S3 when it said so last.
ALTER TABLE clusters ADD COLUMN backup_region TEXT;
ALTER TABLE clusters ADD COLUMN second_key TEXT;
ALTER TABLE clusters ADD COLUMN revocation TEXT;
ALTER TABLE clusters ADD COLUMN second_canary TEXT;
CREATE INDEX clusters_by_backup_region ON clusters (backup_region);
CREATE INDEX clusters_by_second_key ON clusters (second_key);
ALTER TABLE regions ADD COLUMN s3_endpoint TEXT;

CREATE TRIGGER backup_region_fixed BEFORE UPDATE OF backup_region ON clusters
BEGIN SELECT RAISE(ABORT, 'backup_region is fixed at creation'); END;
CREATE TRIGGER second_key_once BEFORE UPDATE OF second_key, revocation ON clusters
WHEN OLD.bound_key IS NOT NULL BEGIN SELECT RAISE(ABORT, 'the binding is written once'); END;
CREATE TRIGGER second_canary_once BEFORE UPDATE OF second_canary ON clusters
WHEN OLD.second_canary IS NOT NULL BEGIN SELECT RAISE(ABORT, 'second_canary is written once'); END;
