#!/bin/sh
# Make sure that commands exist, installing their Debian packages where that is allowed.
#
#   scripts/need.sh COMMAND:PACKAGE ...
#
# A COMMAND may be `python3-ensurepip`: the part of Python that fills a virtual environment, which
# Debian ships apart; or the path of a file. What cannot be installed is named, and the exit code is 1.
set -eu

has() {
    case $1 in
        python3-ensurepip) "${PYTHON:-python3}" -c 'import ensurepip' 2>/dev/null ;;
        /*) [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

missing=
for item in "$@"; do
    has "${item%%:*}" || missing="$missing ${item#*:}"
done
[ -z "$missing" ] && exit 0

if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    # shellcheck disable=SC2086 # A list of packages.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
else
    echo "Missing:$missing. Install them, for instance with: sudo apt-get install$missing" >&2
    exit 1
fi
