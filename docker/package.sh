#!/bin/sh
# package.sh FROM TO: copies what runs of a built package. Of tfjs that is one file a package; what a browser, a compiler or a debugger reads
# stays behind (270 of 280 MB).
set -eu
mkdir -p "$2/dist" "$2/docker"
cp -r "$1/package.json" "$1/LICENSE" "$1/node_modules" "$1/configs" "$2/"
cp -r "$1/dist/src" "$1/dist/node_modules" "$2/dist/"
cp "$1/docker/health-check.sh" "$2/docker/"
for package in "$2"/node_modules/@tensorflow/*; do
  main=$(node -p 'require(process.argv[1]).main' "$(realpath "$package")/package.json")
  find "$package" -mindepth 1 ! -type d ! -path "$package/package.json" ! -path "$package/$main" ! -iname 'LICENSE*' -delete
done
find "$2" -type f \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -delete
find "$2" -type d -empty -delete
