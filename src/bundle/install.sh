#!/bin/sh
# Installs dtrain from the bundle in this folder, without a network:
#
#   sh install.sh [FOLDER]
#
# FOLDER (./dtrain) gets the program; TensorFlow's library goes where dtrain setup puts it ($DTRAIN_HOME, else ~/.cache/dtrain).
# Needs a shell, coreutils, tar and gzip; and Node 20.19 or later unless the bundle was made --with-node.
# Safe to repeat: run it again when more parts have come. Nothing is replaced, and nothing is there by half.
set -eu
umask 022

fail() {
  echo "install.sh: $*" >&2
  exit 4
}

[ $# -le 1 ] || { echo 'Usage: sh install.sh [FOLDER]' >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
target=${1:-dtrain}
sums=$here/program.sha256
[ "$(uname -s) $(uname -m)" = 'Linux x86_64' ] || fail "expected Linux on x86_64, got $(uname -s) on $(uname -m)."
for tool in tar gzip sha256sum; do
  command -v "$tool" > /dev/null || fail "expected the program $tool here, found none. Install it, then run this again."
done
[ -f "$sums" ] || fail "program.sha256 is not in $here yet. Copy it there, then run this again."

if [ -f "$target/program.sha256" ]; then
  cmp -s "$sums" "$target/program.sha256" ||
    fail "$target holds another dtrain than this bundle. Name another folder, or remove it first."
elif [ -e "$target" ] && [ -n "$(ls -A "$target")" ]; then
  fail "$target is not empty. Name another folder."
else
  missing=''
  while read -r _ name; do
    [ -f "$here/$name" ] || missing="$missing $name"
  done < "$sums"
  [ -z "$missing" ] || fail "not in $here yet:$missing. Copy what is missing there, then run this again."
  damaged=$(cd "$here" && sha256sum -c program.sha256 2> /dev/null | sed -n 's/: FAILED.*//p' | tr '\n' ' ')
  [ -z "$damaged" ] || fail "not what was written, or still being copied: ${damaged% }. Copy it again, then run this again."
  new=$target.new-$$
  trap 'rm -rf "$new"' EXIT
  mkdir -p "$new" || fail "$new cannot be made. Name another folder."
  names=$(sed 's/^[0-9a-f]*  //' "$sums")
  # The names hold no blanks.
  # shellcheck disable=SC2086
  (cd "$here" && cat $names) | gzip -dc | tar -xf - -C "$new" ||
    fail "the program could not be unpacked into $new: is the disk full? Free space, or name another folder."
  cp "$sums" "$new/program.sha256"
  sync -f "$new" 2> /dev/null || sync
  if [ -e "$target" ]; then rmdir "$target"; fi
  mv "$new" "$target"
  trap - EXIT
  echo "dtrain is in $target"
fi

if [ ! -x "$target/bin/node" ]; then
  command -v node > /dev/null ||
    fail 'there is no Node here, and this bundle brings none. Install Node 20.19 or later, or make the bundle --with-node.'
  node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
    fail "expected Node 20.19 or later, got $(node --version). Install a current Node, or make the bundle --with-node."
fi
"$target/bin/dtrain" setup --from-bundle "$here"
echo "Installed. Begin with: $target/bin/dtrain --config quickstart"
