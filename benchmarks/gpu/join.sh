#!/usr/bin/env bash
# join.sh FOLDER: checks the pieces FOLDER/1/piece, FOLDER/2/piece, ... against the checksums that lie beside each,
# and unpacks them to FOLDER/given, once.
set -euo pipefail
cd "$1"
[ ! -d given ] || exit 0
sums=$(find . -maxdepth 2 -name SHA256SUMS | sort | head -n 1)
[ -n "$sums" ] || { echo "$1: no folder of pack.sh is here; bring 1, 2, ... from where it ran" >&2; exit 1; }
while read -r _ piece; do
    [ -f "$piece" ] || { echo "$1/$piece is missing: bring this folder, too" >&2; exit 1; }
done < "$sums"
sha256sum --check --quiet "$sums" || { echo "$1: a piece is damaged; bring it again" >&2; exit 1; }
mkdir unpacking
cut -c 67- "$sums" | xargs cat | tar -x -C unpacking
mv unpacking given
