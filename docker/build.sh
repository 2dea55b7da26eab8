#!/bin/sh
# Builds the package where its sources are, and leaves of node_modules only what runs.
set -eu
npm ci
npm run build
npm prune --omit=dev
