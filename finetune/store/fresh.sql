CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

INSERT INTO "alembic_version" VALUES('0010');

CREATE TABLE attempts (
	run_key VARCHAR(64) NOT NULL, 
	job_id VARCHAR(32) NOT NULL, 
	number INTEGER NOT NULL, 
	remote_id VARCHAR(255), 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (run_key), 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);

CREATE TABLE deployments (
	gateway VARCHAR(32) NOT NULL, 
	id VARCHAR(255) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	alias VARCHAR(64) NOT NULL, 
	listed_as VARCHAR(255) NOT NULL, 
	at DATETIME NOT NULL, 
	PRIMARY KEY (gateway, id)
);

CREATE TABLE events (
	seq INTEGER NOT NULL, 
	job_id VARCHAR(32) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	message TEXT NOT NULL, 
	at DATETIME NOT NULL, 
	PRIMARY KEY (seq), 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);

CREATE TABLE jobs (
	id VARCHAR(32) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	owner VARCHAR(64) NOT NULL, 
	provider VARCHAR(32) NOT NULL, 
	base_model VARCHAR(255) NOT NULL, 
	recipe JSON NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	answers_for VARCHAR(64), 
	state VARCHAR(16) NOT NULL, 
	provider_state VARCHAR(64), 
	cancel_requested BOOLEAN NOT NULL, 
	due_at DATETIME, 
	attempt INTEGER NOT NULL, 
	run_key VARCHAR(64), 
	remote_id VARCHAR(255), 
	cursor TEXT, 
	data JSON NOT NULL, 
	remote_data JSON, 
	create_sent_at DATETIME, 
	progress JSON, 
	artifact JSON, 
	model VARCHAR(128), 
	error JSON, 
	failures INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	changed_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	lease_owner VARCHAR(128), 
	lease_token INTEGER NOT NULL, 
	lease_until DATETIME, cost JSON, doubt_until DATETIME, priority INTEGER DEFAULT 0 NOT NULL, admitted_at DATETIME, hold_requested BOOLEAN DEFAULT 0 NOT NULL, held BOOLEAN DEFAULT 0 NOT NULL, deadline_at DATETIME, trace VARCHAR(64), estimate JSON, 
	PRIMARY KEY (id), 
	UNIQUE (answers_for)
);

CREATE TABLE metrics (
	job_id VARCHAR(32) NOT NULL, 
	step INTEGER NOT NULL, 
	name VARCHAR(32) NOT NULL, 
	value FLOAT NOT NULL, 
	PRIMARY KEY (job_id, step, name), 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);

CREATE TABLE models (
	name VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	job_id VARCHAR(32) NOT NULL, 
	provider VARCHAR(32) NOT NULL, 
	base_model VARCHAR(255) NOT NULL, 
	artifact JSON NOT NULL, 
	lineage JSON NOT NULL, 
	created_at DATETIME NOT NULL, status VARCHAR(16) DEFAULT 'trained' NOT NULL, 
	PRIMARY KEY (name, version), 
	UNIQUE (job_id), 
	FOREIGN KEY(job_id) REFERENCES jobs (id)
);

CREATE TABLE promotions (
	id VARCHAR(32) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	alias VARCHAR(64) NOT NULL, 
	moves VARCHAR(129), 
	gateways JSON NOT NULL, 
	steps JSON NOT NULL, 
	pause_s FLOAT NOT NULL, 
	gate JSON, 
	state VARCHAR(16) NOT NULL, 
	step INTEGER NOT NULL, 
	"before" INTEGER, 
	"rollback" BOOLEAN DEFAULT 0 NOT NULL, 
	notes JSON NOT NULL, 
	evidence JSON NOT NULL, 
	error JSON, 
	failures INTEGER NOT NULL, 
	due_at DATETIME, 
	"by" VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	finished_at DATETIME, 
	lease_owner VARCHAR(128), 
	lease_token INTEGER NOT NULL, 
	lease_until DATETIME, max_hosting VARCHAR(32), 
	PRIMARY KEY (id), 
	UNIQUE (moves)
);

CREATE TABLE reports (
	name VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	suite VARCHAR(255) NOT NULL, 
	report JSON NOT NULL, 
	at DATETIME NOT NULL, 
	PRIMARY KEY (name, version, suite)
);

CREATE TABLE runs (
	run_key VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	request JSON NOT NULL, 
	cancel_requested BOOLEAN NOT NULL, 
	starts INTEGER NOT NULL, 
	deaths INTEGER NOT NULL, 
	process VARCHAR(128), 
	worker VARCHAR(128), 
	lease_token INTEGER NOT NULL, 
	lease_until DATETIME, 
	artifact JSON, 
	error JSON, 
	created_at DATETIME NOT NULL, hold_requested BOOLEAN DEFAULT 0 NOT NULL, need JSON, placed JSON, card_s FLOAT DEFAULT 0 NOT NULL, furthest INTEGER DEFAULT 0 NOT NULL, 
	PRIMARY KEY (run_key)
);

CREATE TABLE seats (
	worker VARCHAR(128) NOT NULL, 
	ref VARCHAR(129) NOT NULL, 
	devices JSON NOT NULL, 
	need JSON NOT NULL, 
	placed JSON, 
	since DATETIME NOT NULL, 
	lease_until DATETIME NOT NULL, token VARCHAR(16), 
	PRIMARY KEY (worker, ref)
);

CREATE TABLE traffic (
	seq INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	alias VARCHAR(64) NOT NULL, 
	shares JSON NOT NULL, 
	reason VARCHAR(255) NOT NULL, 
	"by" VARCHAR(64) NOT NULL, 
	at DATETIME NOT NULL, 
	PRIMARY KEY (seq)
);

CREATE TABLE workers (
	worker VARCHAR(128) NOT NULL, 
	queues JSON NOT NULL, 
	host VARCHAR(128) NOT NULL, 
	pid INTEGER NOT NULL, 
	seen_at DATETIME NOT NULL, devices JSON, slots INTEGER DEFAULT 1 NOT NULL, warm JSON, 
	PRIMARY KEY (worker)
);

CREATE INDEX jobs_due ON jobs (due_at);

CREATE INDEX jobs_created ON jobs (created_at);

CREATE UNIQUE INDEX attempts_job ON attempts (job_id, number);

CREATE INDEX events_job ON events (job_id, seq);

CREATE INDEX runs_state ON runs (state, created_at);

CREATE INDEX jobs_remote ON jobs (remote_id);

CREATE INDEX jobs_finished ON jobs (finished_at);

CREATE INDEX jobs_run ON jobs (run_key);

CREATE INDEX jobs_state ON jobs (state, provider, finished_at);

CREATE INDEX traffic_alias ON traffic (name, alias, seq);

CREATE INDEX promotions_due ON promotions (due_at);

CREATE INDEX promotions_name ON promotions (name, created_at);

CREATE INDEX promotions_state ON promotions (state, finished_at);
