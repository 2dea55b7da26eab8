#!/bin/sh
# library.sh cpu|gpu FOLDER: makes FOLDER the installed TensorFlow library, by the command that people use. Needs python3 with pip.
set -eu
scratch=$(mktemp -d)
DTRAIN_HOME=$scratch PIP_NO_CACHE_DIR=1 node dist/src/cli/main.js setup "--$1"
mkdir -p "$(dirname "$2")"
mv "$scratch"/tensorflow/*-"$1" "$2"
chmod -R a+rX,go-w "$2"
rm -rf "$scratch"
