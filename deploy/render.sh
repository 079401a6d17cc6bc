#!/usr/bin/env bash
# Print a file of this folder with its @WORDS@ filled in:  render.sh FILE WORD=VALUE...
# A word without a value, or a value for a word that is not there, is an error: nothing is left to chance.
set -euo pipefail

file=$1
shift
text=$(<"$file")
for pair in "$@"; do
    word="@${pair%%=*}@"
    if [[ $text != *"$word"* ]]; then
        echo "render.sh: $file has no $word" >&2
        exit 2
    fi
    text=${text//"$word"/"${pair#*=}"}
done
if [[ $text =~ @[A-Z_]+@ ]]; then
    echo "render.sh: $file: no value for ${BASH_REMATCH[0]}" >&2
    exit 2
fi
printf '%s\n' "$text"
