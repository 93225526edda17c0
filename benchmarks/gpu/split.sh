#!/usr/bin/env bash
# split.sh CONTENT FOLDER BYTES: the files of CONTENT as pieces FOLDER/1/piece, FOLDER/2/piece, ... of at most BYTES,
# each with the checksums of all beside it; join.sh puts them together.
set -euo pipefail
mkdir -p "$2"
find "$2" -maxdepth 2 \( -name piece -o -name SHA256SUMS \) -delete
scratch=$(mktemp -d -p "$(cd "$2" && pwd)")
trap 'rm -rf "$scratch"' EXIT
tar -c -C "$1" . | split --bytes="$3" --numeric-suffixes=1 --suffix-length=3 - "$scratch/"
pieces=()
for piece in "$scratch"/*; do
    number=$((10#$(basename "$piece")))
    mkdir -p "$2/$number"
    mv "$piece" "$2/$number/piece"
    pieces+=("$number/piece")
done
cd "$2"
sums=$(sha256sum "${pieces[@]}")
for piece in "${pieces[@]}"; do
    echo "$sums" > "$(dirname "$piece")/SHA256SUMS"
done
