#!/usr/bin/env bash
# One backup of the memory root into a folder, for the timer or by hand:  backup.sh [DIR]
# `federated-memory backup` makes the archive, reads it back, verifies it, and only then prunes what is older than 14 days
# (never below three good ones); a second one into the same folder is refused. This script says plainly how it ended.
set -euo pipefail

home=/opt/mcp-memory-server
folder=${1:-/var/backups/mcp-memory}
export MEMORY_ENV_FILE=${MEMORY_ENV_FILE:-$home/.env}
program=${FEDERATED_MEMORY:-$home/current/bin/federated-memory}

fail() {
    echo "backup.sh: $*" >&2
    exit 1
}

[[ $folder == /* ]] || fail "name the folder from the top: /var/backups/mcp-memory, not $folder"
[[ -x $program ]] || fail "$program is not there: run install.sh"
[[ -d $folder && -w $folder ]] || fail "$folder is no folder that $(id -un) may write to: run install.sh, or mkdir and chown it"

umask 077
status=0
"$program" backup --to "$folder" || status=$?
if ((status)); then
    echo "backup.sh: no backup was made (exit code $status); the older ones in $folder are as they were" >&2
    exit "$status"
fi
