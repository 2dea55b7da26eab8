#!/bin/sh
# user.sh ROOT: the user that dtrain runs as, and the folders that are its own, in the file system at ROOT (empty: this one).
set -eu
root=${1:-}
grep -q '^dtrain:' "$root/etc/passwd" || echo 'dtrain:x:10001:10001::/workspace:/usr/sbin/nologin' >> "$root/etc/passwd"
grep -q '^dtrain:' "$root/etc/group" || echo 'dtrain:x:10001:' >> "$root/etc/group"
mkdir -p "$root/workspace/runs" "$root/workspace/data" "$root/cache"
chown -R 10001:10001 "$root/workspace" "$root/cache"
