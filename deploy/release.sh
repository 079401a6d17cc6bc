#!/usr/bin/env bash
# The releases of the server on this machine. install.sh and deploy.sh call it; by hand it is for going back.
#     release.sh add WHEEL [WHEELS]  make a release of a wheel, with its pinned dependencies (from the folder WHEELS: no network)
#     release.sh switch ID           run that one; if it is not healthy within a minute, the one before runs again
#     release.sh rollback            run the one that ran before
#     release.sh healthy             0 when the server answers, ready, within a minute
#     release.sh list
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
source "$here/lib.sh"
health_seconds=${MEMORY_DEPLOY_HEALTH_SECONDS:-60}

current() { basename "$(readlink "$home/current" 2>/dev/null || true)"; }
previous() { basename "$(readlink "$home/previous" 2>/dev/null || true)"; }

# A release is one virtual environment, complete or not there: it is made under another name, and nothing runs it before.
add() {
    local wheel=$1 wheels=${2:-} id new pip
    [[ -f $wheel && $wheel == *.whl ]] || fail "$wheel is no wheel" "Build one: make build"
    id=$(basename "$wheel" | cut -d- -f2)-$(sha256sum "$wheel" "$here/requirements.txt" | sha256sum | cut -c1-12)
    if [[ -f $home/releases/$id/.complete ]]; then
        say "release $id is there already" >&2
        say "$id"
        return
    fi
    new=$home/releases/$id
    rm -rf "$new" # what an install that was stopped left behind
    mkdir -p "$new"
    python3 -m venv "$new" >&2 || fail "python3 -m venv does not work" "apt install python3-venv"
    pip=("$new/bin/python" -m pip --disable-pip-version-check --no-input --quiet)
    local from=()
    [[ -z $wheels ]] || from=(--no-index --find-links "$wheels")
    "${pip[@]}" install --require-hashes --only-binary :all: "${from[@]}" -r "$here/requirements.txt" >&2 \
        || fail "the dependencies could not be installed" "Nothing was switched. pip's words are above"
    "${pip[@]}" install --no-deps --no-index "$wheel" >&2 || fail "$wheel could not be installed" "Nothing was switched"
    "$new/bin/federated-memory" --help >/dev/null || fail "the new release does not start at all" "Nothing was switched"
    cp "$here/requirements.txt" "$new/requirements.txt"
    touch "$new/.complete"
    sync "$new/.complete"
    say "$id"
}

point() { # LINK ID: one rename, so that there is never no release
    ln -sfn "releases/$2" "$home/.$1.new"
    mv -Tf "$home/.$1.new" "$home/$1"
}

is_healthy() {
    local port end pid
    port=$(setting PORT)
    end=$((SECONDS + health_seconds))
    while ((SECONDS < end)); do
        # Ended once is enough: systemd would start it again and again.
        [[ $(systemctl show --property NRestarts --value "$unit") == 0 ]] || return 1
        systemctl is-failed --quiet "$unit" && return 1
        pid=$(systemctl show --property MainPID --value "$unit")
        # What answers must be the process that was just started, not a stranger on its port.
        if ((pid > 0)) && curl -fsS --noproxy '*' --max-time 5 "http://127.0.0.1:${port:-8000}/readyz" >/dev/null 2>&1 \
            && [[ $(systemctl show --property MainPID --value "$unit") == "$pid" ]] \
            && [[ $(systemctl show --property ActiveState --value "$unit") == active ]]; then
            return 0
        fi
        sleep 0.2
    done
    return 1
}

restart() {
    systemctl reset-failed "$unit" 2>/dev/null || true
    systemctl restart "$unit"
}

# What the unit asserts, in words: systemd says it itself from version 252 on.
missing_credentials() {
    local file
    while read -r file; do
        [[ -s $file ]] || say "$file is missing or empty: the unit does not start without it"
    done < <(sed -n 's/^AssertFileNotEmpty=//p' "/etc/systemd/system/$unit" 2>/dev/null)
}

switch() {
    local id=$1 before
    [[ -f $home/releases/$id/.complete ]] || fail "there is no release $id" "release.sh list"
    before=$(current)
    point current "$id"
    if restart && is_healthy; then
        if [[ -n $before && $before != "$id" ]]; then point previous "$before"; fi
        say "release $id runs and is healthy"
        prune
        return
    fi
    say "release $id is not healthy:" >&2
    missing_credentials >&2
    journalctl --unit "$unit" --lines 15 --no-pager --output cat >&2 2>/dev/null || true
    if [[ -z $before || $before == "$id" ]]; then
        fail "the server does not run" "systemctl status $unit; journalctl -u $unit"
    fi
    point current "$before"
    health_seconds=60 # what ran before gets all its time, however short the new one's was
    if restart && is_healthy; then
        fail "rolled back: release $before runs again, nothing was lost" "Mend what the lines above say, then deploy again"
    fi
    fail "release $before was put back and is not healthy either" "journalctl -u $unit"
}

prune() {
    local id kept=0
    while read -r id; do
        [[ $id == "$(current)" || $id == "$(previous)" ]] && continue
        kept=$((kept + 1))
        ((kept > kept_releases - 2)) && rm -rf "${home:?}/releases/$id"
    done < <(ls -1t "$home/releases")
    return 0
}

case ${1:-} in
add)
    need_root
    add "${@:2}"
    ;;
switch)
    need_root
    switch "$2"
    ;;
healthy)
    is_healthy
    ;;
rollback)
    need_root
    [[ -n $(previous) ]] || fail "no release ran before this one" "release.sh list"
    switch "$(previous)"
    ;;
list)
    for each in "$home"/releases/*/; do
        id=$(basename "$each")
        case $id in
        "$(current)") say "$id  runs" ;;
        "$(previous)") say "$id  ran before" ;;
        *) say "$id" ;;
        esac
    done
    ;;
*)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
    ;;
esac
