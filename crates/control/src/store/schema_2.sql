-- Version 2: buckets, the data keys of stores that renew them, S3 access keys. `key` is JSON of
-- keystead_types::StoreKey; `store` is a bucket id, or `s3-credentials`. A data key is never
-- changed nor deleted, not even with its bucket: it is evidence of what existed.
CREATE TABLE buckets (
  id TEXT PRIMARY KEY,
  cluster TEXT NOT NULL REFERENCES clusters (id),
  name TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  removed_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX buckets_by_name ON buckets (cluster, name) WHERE removed_ms IS NULL;

CREATE TABLE store_keys (
  cluster TEXT NOT NULL REFERENCES clusters (id),
  store TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  key TEXT NOT NULL,
  PRIMARY KEY (cluster, store, ordinal)
) STRICT;

CREATE TABLE s3_keys (
  access_key_id TEXT PRIMARY KEY,
  cluster TEXT NOT NULL REFERENCES clusters (id),
  role TEXT NOT NULL,
  description TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  sealed TEXT,
  expires_ms INTEGER
) STRICT;
CREATE INDEX s3_keys_by_cluster ON s3_keys (cluster);

CREATE TRIGGER removal_once BEFORE UPDATE ON buckets
WHEN OLD.removed_ms IS NOT NULL BEGIN SELECT RAISE(ABORT, 'a removed bucket stays so'); END;
CREATE TRIGGER store_key_once BEFORE UPDATE ON store_keys
BEGIN SELECT RAISE(ABORT, 'store_keys are written once'); END;
CREATE TRIGGER store_key_stays BEFORE DELETE ON store_keys
BEGIN SELECT RAISE(ABORT, 'store_keys stay'); END;
CREATE TRIGGER sealed_once BEFORE UPDATE OF sealed ON s3_keys
WHEN OLD.sealed IS NOT NULL BEGIN SELECT RAISE(ABORT, 'sealed is written once'); END;
