"""The tables of the embedded store's file, and what makes a file of an older format one of this."""

FORMAT = 8
"""What `PRAGMA user_version` says of a file that this code writes."""

SCHEMA = """
create table if not exists meta (
  name text primary key, value text not null
) without rowid;
create table if not exists log (
  id integer primary key, room text not null, first integer not null, last integer not null,
  entries blob not null
);
create table if not exists running (
  run text primary key, start integer not null, job blob not null
) without rowid;
create table if not exists ended (
  id integer primary key, room text not null, seq integer not null, connid text not null,
  run text not null, start integer not null, stop integer, unanswered integer not null,
  job blob not null, key text, amend integer
);
create table if not exists extended (
  room text not null, seq integer not null, run text not null, primary key (room, seq)
) without rowid;
create unique index if not exists log_by_room on log (room, last);
create unique index if not exists ended_by_room on ended (room, seq);
create index if not exists ended_by_connid on ended (room, connid, seq);
create index if not exists ended_unanswered on ended (room, run, seq) where unanswered;
create index if not exists ended_by_run on ended (run);
create index if not exists extended_by_run on extended (run, seq);
create index if not exists ended_by_key on ended (room, connid, key, seq) where key is not null;
"""
"""A row of the log is a segment: the entries of one commit in one room, with the first and the last
of their seqs, each as its run, its name and its body, in MessagePack. `start`, `stop` and `amend`
are the seqs of a run's `started`, `stopped` and `amended`; `start` is 0 where that is not known.
The seqs of its `extended`, of which there may be many, have a table of their own.

Rows are kept in the order in which they came: a commit then writes few pages, however many rooms
it is about. Only the small rows of the indexes go to many places."""

BY_RUN = """
alter table running rename to was_running;
create table running (run text primary key, job blob not null) without rowid;
insert into running select json_extract(cast(job as text), '$.run'), job from was_running;
drop table was_running;
"""

FORMAT_4 = """
create table log (
  id integer primary key, room text not null, first integer not null, last integer not null,
  entries blob not null
);
create table running (
  run text primary key, start integer not null, job blob not null
) without rowid;
create table ended (
  id integer primary key, room text not null, seq integer not null, connid text not null,
  run text not null, start integer not null, stop integer, unanswered integer not null,
  job blob not null
);
create unique index log_by_room on log (room, last);
create unique index ended_by_room on ended (room, seq);
create index ended_by_connid on ended (room, connid, seq);
create index ended_unanswered on ended (room, run, seq) where unanswered;
"""

SEGMENTS = f"""
drop index if exists log_by_room;
drop index if exists log_by_run;
drop index if exists ended_by_room;
drop index if exists ended_by_connid;
drop index if exists ended_unanswered;
alter table log rename to was_log;
alter table running rename to was_running;
alter table ended rename to was_ended;
create index was_log_by_run on was_log (run, name);
{FORMAT_4}
insert into log (room, first, last, entries)
  select room, seq, seq, segment(run, name, body) from was_log order by room, seq;
insert into running
  select run,
    ifnull((select seq from was_log where run = was_running.run and name = 'started'), 0), job
  from was_running;
insert into ended (room, seq, connid, run, start, stop, unanswered, job)
  select room, seq, connid, run,
    ifnull((select seq from was_log where run = was_ended.run and name = 'started'), 0),
    (select seq from was_log where run = was_ended.run and name = 'stopped'), unanswered, job
  from was_ended order by room, seq;
drop table was_log;
drop table was_running;
drop table was_ended;
"""

RUNS = "create index ended_by_run on ended (run);"

KEYS = """
alter table ended add column key text;
create index ended_by_key on ended (room, connid, key, seq) where key is not null;
"""

AMENDED = "alter table ended add column amend integer;"

EXTENDED = """
create table extended (
  room text not null, seq integer not null, run text not null, primary key (room, seq)
) without rowid;
create index extended_by_run on extended (run, seq);
"""

TAKE_OVER = {
    1: (2, BY_RUN),
    2: (4, SEGMENTS),
    3: (4, SEGMENTS),
    4: (5, RUNS),
    5: (6, KEYS),
    6: (7, AMENDED),
    7: (8, EXTENDED),
}
"""What makes a newer format of a file of each older one, and which: the first kept running jobs by
room and connid, the second the log by room, the third each entry in a row of its own, the
fourth looked through all ended jobs of a connid for a run, the fifth knew no keys, the sixth
nothing of ends that were amended, and the seventh nothing of deadlines that were moved. What a
step makes never changes."""
