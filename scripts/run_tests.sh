#!/bin/sh
# Run tests in several processes. What fails beside others runs once more by itself, as machines are
# shared and busy: it has failed when it fails again. Both results are shown.
#
#   PYTHON=.venv/bin/python PROCESSES=4 scripts/run_tests.sh [PYTEST ARGUMENT ...]
set -u
# Most that runs here is a process of its own: what it imports is compiled once.
unset PYTHONDONTWRITEBYTECODE
python=${PYTHON:-python3}

"$python" -m pytest --numprocesses "${PROCESSES:-4}" --dist worksteal "$@"
code=$?
# Only then have tests failed: see pytest's list of exit codes.
[ "$code" = 1 ] || exit "$code"
echo
echo "RERUN: the tests that failed above run once more, one after the other."
"$python" -m pytest --last-failed --last-failed-no-failures none -rfEp "$@"
code=$?
if [ "$code" = 0 ]; then
    echo "RERUN: passed. The tests listed here failed beside others and passed by themselves."
else
    echo "RERUN: failed again."
fi
exit "$code"
