"""Hourglass for programs and for the command line; importing it does nothing else.

    cli, oneshots, runner, watch, tui   the command line: `hourglass.cli.main`
    owner, process, output              keep a job on the server while its work runs; end that
    progress                            how far that is, from what it prints
    follow, board                       the state of a room, and how it stays right
    session, websocket                  commands, answers and events over one WebSocket
    settings, errors, formatting        what all of them need

Time is only ever measured with a clock that cannot be set, or taken from the server: a machine
whose date is wrong changes nothing.
"""

__version__ = "1.0.0"
