-- Version 1. Times are milliseconds since the Unix epoch. `canary`, `wrapped` and `report` are
-- JSON of keystead_types. What is written once is guarded by triggers as well as by the program.
CREATE TABLE organizations (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  token_sha256 BLOB NOT NULL UNIQUE,
  created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE clusters (
  id TEXT PRIMARY KEY,
  organization TEXT NOT NULL REFERENCES organizations (id),
  name TEXT NOT NULL,
  region TEXT NOT NULL,
  template TEXT NOT NULL,
  evict_after_ms INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  tenant_role TEXT,
  bound_key TEXT,
  bound_ms INTEGER,
  canary TEXT,
  UNIQUE (organization, name)
) STRICT;
CREATE INDEX clusters_by_region ON clusters (region);
CREATE INDEX clusters_by_key ON clusters (bound_key);

CREATE TABLE volumes (
  id TEXT PRIMARY KEY,
  cluster TEXT NOT NULL REFERENCES clusters (id),
  disk TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  wrapped TEXT,
  key_digest TEXT,
  grant_generation INTEGER NOT NULL,
  UNIQUE (cluster, disk)
) STRICT;

CREATE TABLE preflights (
  id TEXT PRIMARY KEY,
  cluster TEXT NOT NULL REFERENCES clusters (id),
  key_arn TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  report TEXT,
  recorded_ms INTEGER
) STRICT;
CREATE INDEX preflights_by_cluster ON preflights (cluster);

CREATE TABLE regions (region TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TRIGGER role_once BEFORE UPDATE OF tenant_role ON clusters
WHEN OLD.tenant_role IS NOT NULL BEGIN SELECT RAISE(ABORT, 'tenant_role is written once'); END;
CREATE TRIGGER binding_once BEFORE UPDATE OF bound_key ON clusters
WHEN OLD.bound_key IS NOT NULL BEGIN SELECT RAISE(ABORT, 'bound_key is written once'); END;
CREATE TRIGGER canary_once BEFORE UPDATE OF canary ON clusters
WHEN OLD.canary IS NOT NULL BEGIN SELECT RAISE(ABORT, 'canary is written once'); END;
CREATE TRIGGER wrapped_once BEFORE UPDATE OF wrapped ON volumes
WHEN OLD.wrapped IS NOT NULL BEGIN SELECT RAISE(ABORT, 'wrapped is written once'); END;
CREATE TRIGGER digest_once BEFORE UPDATE OF key_digest ON volumes
WHEN OLD.key_digest IS NOT NULL BEGIN SELECT RAISE(ABORT, 'key_digest is written once'); END;
CREATE TRIGGER report_once BEFORE UPDATE OF report ON preflights
WHEN OLD.report IS NOT NULL BEGIN SELECT RAISE(ABORT, 'report is written once'); END;
CREATE TRIGGER grants_rise BEFORE UPDATE OF grant_generation ON volumes
WHEN NEW.grant_generation <= OLD.grant_generation
BEGIN SELECT RAISE(ABORT, 'grant_generation rises'); END;
