-- The place of an entry (pos) is the place of its log, in the order in which logs
-- were first written, times 2^40, plus its sequence number: one integer that
-- grows, so that rows are appended and a page of results is a range.
CREATE TABLE logs (
	place  INTEGER PRIMARY KEY,
	origin TEXT NOT NULL UNIQUE,
	next   INTEGER NOT NULL        -- the sequence number that comes next
);

-- One row: the log that was written last.
CREATE TABLE cursor (
	one   INTEGER PRIMARY KEY CHECK (one = 1),
	place INTEGER NOT NULL
);

-- What is asked for. The entries themselves are in raws, so that counting reads
-- a tenth of the pages.
CREATE TABLE events (
	pos      INTEGER PRIMARY KEY,
	id       TEXT NOT NULL UNIQUE,
	ts       INTEGER NOT NULL,     -- microseconds since 1970, when it occurred
	rec      INTEGER NOT NULL,     -- likewise, when it was recorded; grows with pos within a log
	type     TEXT NOT NULL,
	tenant   TEXT NOT NULL,
	agent    TEXT,
	session  TEXT,
	kind     TEXT,
	tool     TEXT,
	rule     TEXT,
	action   TEXT,
	severity INTEGER
);
CREATE INDEX events_agent ON events (agent) WHERE agent IS NOT NULL;
CREATE INDEX events_session ON events (session) WHERE session IS NOT NULL;
CREATE INDEX events_tool ON events (tool) WHERE tool IS NOT NULL;
CREATE INDEX events_type ON events (type) WHERE type <> 'decision';
CREATE INDEX events_action ON events (action) WHERE action NOT IN ('allow', 'log');
CREATE INDEX events_severe ON events (pos) WHERE severity >= 2;
-- Entries that were recorded more than a second before or after they occurred: for
-- all others a range of time is a range of places.
CREATE INDEX events_odd ON events (ts) WHERE abs(rec - ts) > 1000000;

CREATE TABLE classes (
	class TEXT NOT NULL,
	pos   INTEGER NOT NULL,
	PRIMARY KEY (class, pos)
) WITHOUT ROWID;

CREATE TABLE raws (
	pos INTEGER PRIMARY KEY,
	raw BLOB NOT NULL
);
