"""Hourglass for programs and for the command line; importing it does nothing else.

    jobs, tracking, running, delivery   a program shows its own work: `hourglass.job`
    program, keeper                     what a process has running, and its lease keeper
    lease_keeper, kept_job, link        that process, which keeps the jobs on the server
    descendants                         the processes that a job has started
    queues                              the tasks of queues as jobs
    cli, oneshots, runner, watch, tui   the command line: `hourglass.cli.main`
    attempts, attach, executable        around a run: again, of what runs already, or for sh
    guard, signals                      the two processes of `run`, and what they are sent
    process, tree, output               the command, all that it starts, what it prints
    owner, predecessor                  keep a job on the server while its work runs
    progress                            how far that is, from what it prints
    terminal                            a terminal for it, and ours meanwhile
    follow, board                       the state of a room, and how it stays right
    session, websocket, proxy           commands, answers and events over one WebSocket
    settings, files, errors, naming     what all of them need, and what is guessed
    aio, toml, native, durations        what Python or the system has elsewhere, or not yet

Time is only ever measured with a clock that cannot be set, or taken from the server: a machine
whose date is wrong changes nothing.
"""

from hourglass.delivery import Killed, TimedOut
from hourglass.jobs import Job, current, job
from hourglass.tracking import track

__all__ = ["Job", "Killed", "TimedOut", "current", "job", "track"]
__version__ = "1.0.0"
