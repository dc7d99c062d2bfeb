-- One shard. Times are milliseconds since the Unix epoch. See docs/state_machine.md.

CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- One function of one tenant. Never deleted: outcomes and dead letters name their lane.
CREATE TABLE lanes (
  lane_id INTEGER PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  function_name TEXT NOT NULL,
  UNIQUE (tenant_id, function_name)
) STRICT;

-- Events that may be leased now, are leased, or wait in handover under a lease. The sequence is lane_id << 42 | place in the
-- lane, so that the table itself is the index of every lane.
CREATE TABLE events (
  sequence INTEGER PRIMARY KEY,
  request_id BLOB NOT NULL CHECK (length(request_id) = 16),
  expires_at_ms INTEGER NOT NULL,
  enqueued_at_ms INTEGER NOT NULL,
  -- Of events with a derived id only; empty otherwise.
  body_hash BLOB NOT NULL,
  function_errors INTEGER NOT NULL DEFAULT 0,
  throttles INTEGER NOT NULL DEFAULT 0,
  deliveries INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  first_started_at_ms INTEGER NOT NULL DEFAULT 0,
  error_type TEXT NOT NULL DEFAULT '',
  error_message TEXT NOT NULL DEFAULT '',
  duration_us INTEGER NOT NULL DEFAULT 0,
  executed_version TEXT NOT NULL DEFAULT '',
  sandbox_id TEXT NOT NULL DEFAULT '',
  -- Serialized evenflow.queue.v1.Handover; NULL: the event was not run to an end.
  handover BLOB,
  -- Serialized evenflow.common.v1.Event.
  event BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_by_request_id ON events (request_id);

-- Events that wait for their time. The id is due time in ms << 21 | a counter: the table itself is the index by time.
CREATE TABLE delayed (
  delayed_id INTEGER PRIMARY KEY,
  lane_id INTEGER NOT NULL REFERENCES lanes,
  request_id BLOB NOT NULL CHECK (length(request_id) = 16),
  expires_at_ms INTEGER NOT NULL,
  enqueued_at_ms INTEGER NOT NULL,
  body_hash BLOB NOT NULL,
  function_errors INTEGER NOT NULL,
  throttles INTEGER NOT NULL,
  deliveries INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  first_started_at_ms INTEGER NOT NULL,
  error_type TEXT NOT NULL,
  error_message TEXT NOT NULL,
  duration_us INTEGER NOT NULL,
  executed_version TEXT NOT NULL,
  sandbox_id TEXT NOT NULL,
  handover BLOB,
  event BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX delayed_by_request_id ON delayed (request_id);

CREATE TABLE dead_letters (
  dead_id INTEGER PRIMARY KEY,
  lane_id INTEGER NOT NULL REFERENCES lanes,
  tenant_id TEXT NOT NULL,
  request_id BLOB NOT NULL CHECK (length(request_id) = 16),
  expires_at_ms INTEGER NOT NULL,
  enqueued_at_ms INTEGER NOT NULL,
  body_hash BLOB NOT NULL,
  function_errors INTEGER NOT NULL,
  throttles INTEGER NOT NULL,
  deliveries INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  first_started_at_ms INTEGER NOT NULL,
  error_type TEXT NOT NULL,
  error_message TEXT NOT NULL,
  duration_us INTEGER NOT NULL,
  executed_version TEXT NOT NULL,
  sandbox_id TEXT NOT NULL,
  dead_at_ms INTEGER NOT NULL,
  condition INTEGER NOT NULL,
  response_payload BLOB NOT NULL,
  event BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX dead_letters_by_request_id ON dead_letters (request_id);
CREATE INDEX dead_letters_by_tenant ON dead_letters (tenant_id, dead_id);

-- The earliest expiry among 4,096 neighbours of a lane: an index of ages that costs one write for many events.
CREATE TABLE expiry_zones (
  -- sequence >> 12 of the events in the zone.
  zone INTEGER PRIMARY KEY,
  expires_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX expiry_zones_by_time ON expiry_zones (expires_at_ms);

-- Terminal outcomes are kept in tables outcomes_N, each of a stretch of time and dropped whole.
CREATE TABLE outcome_buckets (
  bucket_id INTEGER PRIMARY KEY,
  opened_at_ms INTEGER NOT NULL
) STRICT;

-- Cost nothing for the rows outside; at start they tell how many there are without a look at every event.
CREATE INDEX events_in_handover ON events (sequence) WHERE handover IS NOT NULL;
CREATE INDEX delayed_in_handover ON delayed (delayed_id) WHERE handover IS NOT NULL;
