#!/bin/sh
# List the Pythons of this machine that Hourglass is tested on: for each minor version its path.
#
#   scripts/pythons.sh [VERSION]
#
# That of VERSION is left out. Found are those named `python3.12` and the like, and those of pyenv.
set -eu

candidates() {
    command -v "python$1" || true
    if command -v pyenv >/dev/null; then
        pyenv versions --bare | grep "^$1\.[0-9]*$" | sort -Vr | while read -r found; do
            echo "$(pyenv root)/versions/$found/bin/python"
        done
    fi
}

# What is found may be a stand-in of pyenv's that only says where to look, or have no pip to give.
works() {
    "$2" -c "import ensurepip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null
}

for version in 3.11 3.12 3.13 3.14; do
    [ "$version" = "${1:-}" ] && continue
    for python in $(candidates "$version"); do
        if works "$version" "$python"; then
            echo "$python"
            break
        fi
    done
done
