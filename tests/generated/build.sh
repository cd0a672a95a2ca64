#!/bin/sh
# Make a client for each language from build/openapi.json, and build the programs that use them.
set -eu
cd "$(dirname "$0")"
rm -rf java/build go/build typescript/build
(cd java && mvn --quiet --batch-mode compile)
mkdir -p go/build/hourglass
cp java/build/go/*.go go/build/hourglass/
(cd go && go build -o build/program .)
(cd typescript && npm ci --silent && npm run --silent build)
