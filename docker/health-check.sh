#!/bin/sh
# health-check.sh [SECONDS]: exit code 0 while a run is under way, that is while DTRAIN_HEARTBEAT was touched within SECONDS (60).
file=${DTRAIN_HEARTBEAT:?is not set}
most=${1:-60}
then=$(stat -c %Y "$file" 2> /dev/null) || { echo "no heartbeat: $file is not there"; exit 1; }
age=$(($(date +%s) - then))
[ "$age" -le "$most" ] || { echo "the last heartbeat is $age s old, expected at most $most s"; exit 1; }
