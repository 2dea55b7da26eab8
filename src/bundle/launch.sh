#!/bin/sh
# dtrain as its bundle installed it, with the Node beside this file where the bundle brought one.
here=$(dirname "$(readlink -f "$0")")
node=$here/node
[ -x "$node" ] || node=node
exec "$node" "$here/../app/dist/src/cli/main.js" "$@"
