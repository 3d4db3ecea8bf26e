-- What is owed to customers, and what a crash must not take. One connection writes; times are epoch seconds.

-- An endpoint, by URL. disabled_at: it answered 410. failing_since: it fails for everyone (one call's events probe).
CREATE TABLE endpoint (
  id            INTEGER PRIMARY KEY,
  url           TEXT NOT NULL UNIQUE,
  disabled_at   REAL,
  failing_since REAL,
  probes        INTEGER NOT NULL DEFAULT 0,
  probe_at      REAL
) STRICT;

-- A lane is an endpoint and a call that owe each other something; it exists while it holds an event.
-- That due_at stands here, and not at the event, is the whole trick of order: only a lane's head can ever be due.
-- id is the position of the lane's first event, so that no id is used for two lanes.
CREATE TABLE lane (
  id               INTEGER PRIMARY KEY,
  endpoint_id      INTEGER NOT NULL REFERENCES endpoint (id),
  call_id          TEXT NOT NULL,
  head             INTEGER NOT NULL,            -- position of its first event
  due_at           REAL NOT NULL,
  asked            INTEGER NOT NULL DEFAULT 0,  -- 1: the receiver asked for the pause (Retry-After)
  attempts         INTEGER NOT NULL DEFAULT 0,  -- of the head
  first_failure_at REAL,                        -- of the head
  outcome          TEXT,                        -- of the head's last attempt
  status           INTEGER,
  UNIQUE (call_id, endpoint_id),
  CHECK ((attempts = 0) = (first_failure_at IS NULL))
) STRICT;
CREATE INDEX lane_due ON lane (endpoint_id, due_at);
CREATE INDEX lane_head ON lane (endpoint_id, head);

-- An event that is owed. position is the order of storing over all calls, hence within each.
CREATE TABLE event (
  position   INTEGER PRIMARY KEY,
  lane_id    INTEGER NOT NULL REFERENCES lane (id),
  id         TEXT NOT NULL UNIQUE,
  type       TEXT NOT NULL,
  sequence   INTEGER NOT NULL,
  created_at REAL NOT NULL,
  stored_at  REAL NOT NULL,
  ends_call  INTEGER NOT NULL,
  body       BLOB NOT NULL
) STRICT;
CREATE INDEX event_lane ON event (lane_id, position);

-- An event that was given up. It keeps its position: replayed, it takes its old place in its call's order.
CREATE TABLE dead_letter (
  position   INTEGER PRIMARY KEY,
  endpoint   TEXT NOT NULL,
  call_id    TEXT NOT NULL,
  id         TEXT NOT NULL UNIQUE,
  type       TEXT NOT NULL,
  sequence   INTEGER NOT NULL,
  created_at REAL NOT NULL,
  stored_at  REAL NOT NULL,
  ends_call  INTEGER NOT NULL,
  body       BLOB NOT NULL,
  died_at    REAL NOT NULL,
  attempts   INTEGER NOT NULL,
  outcome    TEXT NOT NULL,
  status     INTEGER
) STRICT;
CREATE INDEX dead_letter_died ON dead_letter (died_at);
CREATE INDEX dead_letter_call ON dead_letter (call_id);

-- A call, open or lately ended (a stream may open it anew, and its sequence runs on).
CREATE TABLE call (
  id         TEXT PRIMARY KEY,
  open       INTEGER NOT NULL,
  state      BLOB NOT NULL,
  changed_at REAL NOT NULL
) STRICT;
CREATE INDEX call_open ON call (id) WHERE open = 1;
CREATE INDEX call_ended ON call (changed_at) WHERE open = 0;

-- A final turn, until its call has ended and that was delivered. position: where the order of events stood when it was
-- stored, so that the end of a call takes the turns before it and none of a call opened anew.
CREATE TABLE turn (
  call_id  TEXT NOT NULL,
  track    TEXT NOT NULL,
  number   INTEGER NOT NULL,
  position INTEGER NOT NULL,
  body     BLOB NOT NULL,
  PRIMARY KEY (call_id, track, number)
) STRICT, WITHOUT ROWID;

-- A session with the speech service whose close is not confirmed.
CREATE TABLE session (
  key     TEXT PRIMARY KEY,
  call_id TEXT NOT NULL,
  track   TEXT NOT NULL,
  body    BLOB NOT NULL
) STRICT;
CREATE INDEX session_call ON session (call_id);

-- Written every few seconds of silence: a store that cannot be written is noticed before something must be.
CREATE TABLE pulse (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  at REAL NOT NULL
) STRICT;
