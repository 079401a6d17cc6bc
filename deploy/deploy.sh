#!/usr/bin/env bash
# A new version onto a machine that install.sh has set up: build the wheel, ship it, switch, look whether it is healthy,
# and go back by itself when it is not. Services, nginx and jail are install.sh's; run that there when they changed.
#     deploy.sh HOST | --here               HOST as ssh knows it, root or somebody who may sudo
#     deploy.sh rollback HOST | --here      the version that ran before
#     deploy.sh list HOST | --here
#   --wheel FILE    a wheel that is built already        --wheels DIR   dependencies from a folder, no network (--here)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
source "$here/lib.sh"

action=deploy host='' wheel='' wheels=''
while (($#)); do
    case $1 in
    rollback | list) action=$1 ;;
    --here) host=$1 ;;
    --wheel | --wheels)
        (($# > 1)) || fail "$1 needs a value"
        printf -v "${1#--}" '%s' "$2"
        shift
        ;;
    -* | '')
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
        exit 2
        ;;
    *) host=$1 ;;
    esac
    shift
done
[[ -n $host ]] || fail "where to?" "$0 HOST, or --here on the server itself"

# On that machine, as root. Its standard input is ours.
there() {
    if [[ $host == --here ]]; then
        need_root
        bash -c "$1"
    else
        # Quoted for any shell; bash's own %q is for bash alone.
        local quote="'" escaped="'\\''"
        local quoted=$quote${1//$quote/$escaped}$quote
        # shellcheck disable=SC2029 # quoted for the other side on purpose
        ssh -o BatchMode=yes -- "$host" "if [ \$(id -u) = 0 ]; then bash -c $quoted; else sudo -n bash -c $quoted; fi"
    fi
}

there "test -x $home/deploy/release.sh" || fail "there is no server to deploy to at $host" "First: install.sh, on that machine"
if [[ $action != deploy ]]; then
    there "exec 8>/run/lock/mcp-memory-deploy.lock; flock -n 8 || { echo 'another deploy is under way' >&2; exit 1; }; $home/deploy/release.sh $action"
    exit
fi

if [[ -z $wheel ]]; then
    say "Building the wheel"
    rm -f "$here"/../dist/federated_memory-*.whl
    make --silent -C "$here/.." build >/dev/null || fail "the wheel could not be built" "make build says why"
    wheel=$(echo "$here"/../dist/federated_memory-*.whl)
fi
[[ -f $wheel ]] || fail "$wheel is not there"

say "Shipping $(basename "$wheel")"
box=$(mktemp -d)
trap 'rm -rf "$box"' EXIT
mkdir "$box/deploy"
cp "$here"/* "$box/deploy/"
cp "$wheel" "$box/"
# Sent, made, switched and looked at in one go: a connection that breaks leaves the running release as it is. The scripts
# there are replaced only once the new release runs.
tar -C "$box" -cz . | there "
set -euo pipefail
exec 8>/run/lock/mcp-memory-deploy.lock
flock -n 8 || { echo 'another deploy is under way' >&2; exit 1; }
new=\$(mktemp -d /var/tmp/mcp-memory-deploy.XXXXXX)
trap 'rm -rf \"\$new\"' EXIT
tar -C \"\$new\" -xz --no-same-owner
id=\$(\"\$new/deploy/release.sh\" add \"\$new\"/*.whl $(printf %q "$wheels"))
\"\$new/deploy/release.sh\" switch \"\$id\"
install -m 0755 -d $home/deploy
for file in \"\$new\"/deploy/*; do install -m \$(stat -c %a \"\$file\") \"\$file\" $home/deploy/; done
"
