#!/bin/sh
# library.sh cpu|gpu FOLDER: puts the pinned TensorFlow library into FOLDER/tensorflow, by the command that people use. Needs python3 with pip.
set -eu
scratch=$(mktemp -d)
DTRAIN_HOME=$scratch PIP_NO_CACHE_DIR=1 node dist/src/cli/main.js setup "--$1"
mkdir -p "$2"
mv "$scratch"/tensorflow/* "$2"/tensorflow
rm -rf "$scratch"
