#!/bin/sh
# Connects this machine and its coding agents to a Federated Memory server.
#
#   sh install.sh <AI_TOKEN> --sync-token <SYNC_TOKEN> --url https://HOST:PORT --machine NAME
#   sh install.sh --invite 'https://HOST:PORT/#CODE'
#   curl -fsS https://HOST:PORT/client/install.sh | sh -s -- --invite 'https://HOST:PORT/#CODE'
#
# Tokens may also come from MCP_MEMORY_TOKEN and SYNC_TOKEN, or with `-` in their place from standard input, a line
# each; that is better, because arguments show in process lists. Here they go on by the environment only.
#
#   --pin sha256//...   the server's public key, as curl takes it: nothing else is accepted (self-signed certificate)
#   --ca-file PEM       certificate authority of the server's certificate
#
# Every other option goes to `memory_sync.py install`; see `--help`.
set -eu
umask 077

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

# The first Python that is new enough and whole.
find_python() {
    for candidate in "${MEMORY_SYNC_PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        [ -n "$candidate" ] || continue
        command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -I -S -c 'import sys
sys.exit(sys.version_info < (3, 10))' </dev/null >/dev/null 2>&1; then
            "$candidate" -I -S -c 'import sqlite3, ssl' </dev/null >/dev/null 2>&1 ||
                fail "$candidate has no sqlite3 or ssl module: install the whole of Python"
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail 'Python 3.10 or newer is needed: install it (Debian, Ubuntu: apt install python3; macOS: brew install python3)'
}

read_token() {
    IFS= read -r token || [ -n "$token" ] ||
        fail "standard input had no $1 token: give the AI token and the sync token, a line each" 2
    printf '%s\n' "$token"
}

# fetch NAME: one of the client's files from the server, into $work.
fetch() {
    if command -v curl >/dev/null 2>&1; then
        if [ -n "$pin" ]; then
            # The key pin holds although -k leaves the issuer unchecked.
            set -- "$1" -k --pinnedpubkey "$pin"
        elif [ -n "$ca_file" ]; then
            set -- "$1" --cacert "$ca_file"
        fi
        name=$1
        shift
        curl -fsS "$@" --max-time 120 -o "$work/$name" "$origin/client/$name" ||
            fail "$origin/client/$name cannot be fetched; is the server up, and reachable from here?" 6
    elif [ -n "$pin" ]; then
        fail 'curl is needed to check the pinned key: install it and run this again'
    elif command -v wget >/dev/null 2>&1; then
        name=$1
        if [ -n "$ca_file" ]; then set -- "--ca-certificate=$ca_file"; else shift; fi
        wget -q --max-redirect=0 "$@" -O "$work/$name" "$origin/client/$name" ||
            fail "$origin/client/$name cannot be fetched; is the server up, and reachable from here?" 6
    else
        fail 'curl or wget is needed'
    fi
}

# What a proxy or a login page sends instead is not run.
check_fetched() {
    case $(head -n 1 "$work/memory_sync.py") in
        '#!'*python*) ;;
        *) fail "$origin/client/memory_sync.py is not the client: a proxy may have answered" 6 ;;
    esac
    case $(head -c 1 "$work/redaction_rules.json") in
        '{') ;;
        *) fail "$origin/client/redaction_rules.json are not the rules: a proxy may have answered" 6 ;;
    esac
}

main() {
    # A server that hands this file out puts its address here.
    origin='@ORIGIN@'
    case $origin in @*) origin='' ;; esac
    pin='' ca_file='' url='' invite='' ai_token='' sync_token=''

    count=$#
    while [ "$count" -gt 0 ]; do
        argument=$1
        shift
        count=$((count - 1))
        case $argument in
            --*=*)
                # One form only from here on: the value is an argument of its own.
                value=${argument#*=}
                argument=${argument%%=*}
                ;;
            --pin | --ca-file | --url | --invite | --sync-token | --machine | --client | --history | --exclude-project)
                [ "$count" -gt 0 ] || fail "$argument needs a value" 2
                value=$1
                shift
                count=$((count - 1))
                ;;
            *) value='' ;;
        esac
        case $argument in
            --pin) pin=$value ;;
            --invite) invite=$value ;;
            --sync-token) sync_token=$value ;;
            --url)
                url=$value
                set -- "$@" --url "$value"
                ;;
            --ca-file)
                ca_file=$value
                set -- "$@" --ca-file "$value"
                ;;
            --machine | --client | --history | --exclude-project) set -- "$@" "$argument" "$value" ;;
            --*) set -- "$@" "$argument" ;;
            *)
                [ -z "$ai_token" ] || fail 'more than one AI token was given' 2
                ai_token=$argument
                ;;
        esac
    done
    [ "$ai_token" != - ] || ai_token=$(read_token AI)
    [ "$sync_token" != - ] || sync_token=$(read_token sync)

    python=$(find_python) || exit 1
    work=''
    here=$(dirname "$0")
    case $0 in
        *install.sh) [ -f "$here/memory_sync.py" ] || here='' ;;
        *) here='' ;; # piped in: what lies in the current directory is not ours
    esac
    if [ -z "$here" ]; then
        if [ -n "$invite" ]; then origin=${invite%%#*}; elif [ -n "$url" ]; then origin=$url; fi
        origin=${origin%/}
        origin=${origin%/mcp}
        [ -n "$origin" ] || fail 'which server? give --url https://HOST:PORT, or --invite' 2
        case $origin in
            https://* | http://*) ;;
            *) fail "$origin is no address of a server: it starts with https:// or http://" 2 ;;
        esac
        work=$(mktemp -d "${TMPDIR:-/tmp}/memory-install.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
        fetch memory_sync.py
        fetch redaction_rules.json
        check_fetched
        here=$work
        [ -n "$invite" ] || [ -n "$url" ] || set -- "$@" --url "$origin"
    fi

    if [ -n "$ai_token" ]; then MCP_MEMORY_TOKEN=$ai_token && export MCP_MEMORY_TOKEN; fi
    if [ -n "$sync_token" ]; then SYNC_TOKEN=$sync_token && export SYNC_TOKEN; fi
    if [ -n "$invite" ]; then MEMORY_SYNC_INVITE=$invite && export MEMORY_SYNC_INVITE; fi
    "$python" -I -S "$here/memory_sync.py" install "$@"
}

# Last, so that a download that was cut short runs nothing.
main "$@"
