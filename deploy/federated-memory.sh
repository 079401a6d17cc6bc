#!/bin/sh
# `federated-memory` for the operator of this machine: the release that runs, with the server's settings, as its own user.
# Installed by deploy/install.sh as /usr/local/bin/federated-memory.
home=/opt/mcp-memory-server
export MEMORY_ENV_FILE=$home/.env CREDENTIALS_DIRECTORY=/etc/mcp-memory/credentials
if [ "$(id -un)" = mcp-memory ]; then
    exec $home/current/bin/federated-memory "$@"
fi
if [ "$(id -u)" != 0 ]; then
    echo "federated-memory: the memory belongs to the server's user: sudo federated-memory $*" >&2
    exit 4
fi
exec setpriv --reuid=mcp-memory --regid=mcp-memory --clear-groups --reset-env \
    env MEMORY_ENV_FILE="$MEMORY_ENV_FILE" CREDENTIALS_DIRECTORY="$CREDENTIALS_DIRECTORY" TERM="${TERM:-dumb}" \
    $home/current/bin/federated-memory "$@"
