#!/bin/sh
# package.sh FROM TO: copies what runs of a built package.
set -eu
mkdir -p "$2/dist" "$2/docker"
cp -r "$1/package.json" "$1/LICENSE" "$1/node_modules" "$1/configs" "$2/"
cp -r "$1/dist/src" "$2/dist/src"
cp "$1/docker/health-check.sh" "$2/docker/"
