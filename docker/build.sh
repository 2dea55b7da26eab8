#!/bin/sh
# build.sh: builds the package where its sources are, and leaves of node_modules only what runs.
set -eu
npm ci --ignore-scripts --no-audit --no-fund
npm run build
npm prune --omit=dev --ignore-scripts --no-audit --no-fund
