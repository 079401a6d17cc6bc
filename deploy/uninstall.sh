#!/usr/bin/env bash
# Take the memory server off this machine: services, nginx site, jail, firewall table, program and user.
#     uninstall.sh               the memory, its backups, tokens and certificate stay where they are
#     uninstall.sh --everything  they go as well, after the word `delete` was typed (or --yes)
#     uninstall.sh --dry-run     say what would go
# Packages stay, other sites and jails too. Installing again finds everything that stayed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
source "$here/lib.sh"
everything='' yes=''
for each in "$@"; do
    case $each in
    --everything) everything=1 ;;
    --dry-run) dry=1 ;;
    --yes) yes=1 ;;
    *)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
        exit 2
        ;;
    esac
done

drop() { # FILE...: those that are there
    local each
    for each in "$@"; do
        if [[ -e $each || -L $each ]]; then do_ rm -rf --one-file-system "$each"; fi
    done
}
stored() { [[ ! -r $home/install.conf ]] || sed -n "s/^$1=//p" $home/install.conf; }

[[ -n $dry ]] || { need_root && lock; }
root=$(stored root)
backups=$(stored backups)
if [[ -n $everything && -z $yes && -z $dry ]]; then
    read -rp "This deletes ${root:-/data/memory}, ${backups:-the backups} and all tokens for good. Type delete: " word || true
    [[ ${word:-} == delete ]] || fail "nothing was changed"
fi

for each in mcp-memory-backup.timer mcp-memory-backup.service mcp-memory-firewall.service mcp-memory.socket $unit; do
    if [[ -e /etc/systemd/system/$each ]]; then
        do_ systemctl disable --quiet --now "$each" || true
        drop "/etc/systemd/system/$each" "/etc/systemd/system/$each.d"
    fi
done
do_ systemctl daemon-reload

if [[ -e /etc/nginx/sites-available/mcp-memory || -e /etc/nginx/conf.d/mcp-memory.conf ]]; then
    drop /etc/nginx/sites-enabled/mcp-memory /etc/nginx/sites-available/mcp-memory /etc/nginx/conf.d/mcp-memory.conf
    if [[ -n $dry ]] || nginx -t -q 2>/dev/null; then do_ systemctl reload nginx || true; fi
fi
if [[ -e /etc/fail2ban/jail.d/mcp-memory.conf ]]; then
    if [[ -f $home/.sshd-jail-is-ours ]]; then
        # Without this line fail2ban would not start on a Debian without rsyslog.
        [[ -n $dry ]] || printf '[sshd]\nbackend = systemd\n' >/etc/fail2ban/jail.d/sshd-journal.conf
    fi
    drop /etc/fail2ban/jail.d/mcp-memory.conf /etc/fail2ban/filter.d/mcp-memory.conf
    do_ fail2ban-client reload >/dev/null 2>&1 || true
fi
if grep -qs /opt/mcp-memory-server /usr/local/bin/federated-memory; then drop /usr/local/bin/federated-memory; fi
drop $home
if [[ -n $everything ]]; then
    for each in "$root" "$backups"; do
        [[ $each =~ ^/[^/]+/.+ ]] && drop "$each"
    done
    drop $etc
    if getent passwd $user >/dev/null; then do_ userdel $user; fi
    say "Federated Memory is gone."
else
    say "The server is gone. What stays: ${root:-the memory}, ${backups:-the backups}, $etc (tokens, certificate), the user $user."
fi
