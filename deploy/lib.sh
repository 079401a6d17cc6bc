# What the scripts of this folder share; sourced, never run. Fixed places, words for a person, and nothing done yet.
# shellcheck shell=bash disable=SC2034

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly home=/opt/mcp-memory-server       # code: releases/<id>/ (a virtual environment each), current → one of them
readonly etc=/etc/mcp-memory               # credentials/ and tls/
readonly unit=mcp-memory.service
readonly user=mcp-memory
readonly kept_releases=3

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    [[ -z ${2:-} ]] || printf '  %s\n' "$2" >&2
    exit 1
}

need_root() { ((EUID == 0)) || fail "root is needed" "sudo $0 …"; }

# Only one of these scripts changes the server at a time; the lock goes with the process, however it ends.
lock() {
    exec 8>/run/lock/mcp-memory-deploy.lock
    flock --nonblock 8 || fail "another install, deploy or uninstall is under way" "Wait for its end, then start this again"
}

# setting NAME: the value of a line of the server's .env, as systemd reads it; empty without one.
setting() {
    [[ -r $home/.env ]] || return 0
    sed -n "s/^$1=//p" "$home/.env" | tail -n1 | sed -e 's/^"\(.*\)"$/\1/' -e "s/^'\(.*\)'$/\1/"
}

# Replace FILE with standard input, whole or not at all; says so when that changed anything.
changed=0
install_file() { # MODE OWNER:GROUP FILE
    local new
    new=$(mktemp "$3.XXXXXX")
    cat >"$new"
    chmod "$1" "$new"
    chown "$2" "$new"
    if [[ -f $3 ]] && cmp -s "$new" "$3"; then
        rm -f "$new"
        chmod "$1" "$3"
        chown "$2" "$3"
        return
    fi
    sync "$new"
    mv -f "$new" "$3"
    changed=1
    say "  wrote $3"
}

# -- doing, or (with $dry) saying what would be done

dry=
do_() { if [[ -n $dry ]]; then say "  would: $*"; else "$@"; fi; }
put() { # MODE OWNER FILE, the text on standard input
    if [[ -z $dry ]]; then
        install_file "$1" "$2" "$3"
    elif cmp -s - "$3" 2>/dev/null; then
        :
    else
        say "  would: write $3"
    fi
}
put_rendered() { # MODE OWNER FILE TEMPLATE WORD=VALUE...
    local text
    text=$("$here/render.sh" "$here/$4" "${@:5}") || exit 1
    put "$1" "$2" "$3" <<<"$text"
}
