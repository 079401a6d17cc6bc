#!/usr/bin/env bash
# Install the memory server on Debian 12+ or Ubuntu 22.04+, or bring an installed one up to date. Run it as often as you
# like: what is there is kept, what is missing is made, and a run that was stopped is finished by the next one.
#
#     sudo deploy/install.sh --name memory.example.org
#
#   --name NAME            the name that other machines reach this one by (else its address)
#   --address ADDRESS      one more address for the certificate; again for more
#   --machine NAME         whom the invitation at the end is for (laptop)
#   --certificate FILE --key FILE    a real certificate instead of a self-signed one; Let's Encrypt: docs/install.md
#   --new-certificate      replace the self-signed one (machines that pinned the old one must be invited again)
#   --root DIR             where the memory lives (/data/memory)
#   --backups DIR          where the nightly backup goes (/var/backups/mcp-memory)
#   --port, --https-port, --http-port NUMBER     8000 (loopback), 7443, 7444
#   --upstream port|unix   how nginx reaches the server: its port (as it is without this), or a socket file, and the server
#                          then has no network at all
#   --http-listen ADDRESS  plain HTTP on a VPN's address; tokens travel unencrypted, so only loopback by default
#   --wheel FILE           the server (else ../dist/*.whl, else it is built from this checkout)
#   --wheels DIR           dependencies from a folder instead of the network; still checked against their hashes
#   --no-nginx, --no-fail2ban, --no-firewall, --no-backup, --no-invite
#   --dry-run              say what would be done, and do nothing
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib.sh
source "$here/lib.sh"

declare -A option=()
addresses=()
while (($#)); do
    case $1 in
    --name | --machine | --certificate | --key | --root | --backups | --port | --https-port | --http-port | --http-listen | --upstream | --wheel | --wheels)
        (($# > 1)) || fail "$1 needs a value"
        option[${1#--}]=$2
        [[ $1 != --name && $1 != --https-port ]] || option[origin]=1
        shift
        ;;
    --address)
        (($# > 1)) || fail "$1 needs a value"
        addresses+=("$2")
        option[origin]=1
        shift
        ;;
    --new-certificate | --no-nginx | --no-fail2ban | --no-firewall | --no-backup | --no-invite) option[${1#--}]=1 ;;
    --dry-run) dry=1 ;;
    -h | --help)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
        exit
        ;;
    *) fail "unknown option $1" "$0 --help" ;;
    esac
    shift
done

# -- what is wanted: an option, else what the last run was told, else the default

remembered() { [[ -r $home/install.conf ]] && sed -n "s/^$1=//p" "$home/install.conf"; return 0; }
wanted() { # NAME DEFAULT
    local found=${option[$1]:-}
    [[ -n $found ]] || found=$(remembered "$1")
    printf '%s' "${found:-$2}"
}

name=$(wanted name "")
root=$(wanted root /data/memory)
backups=$(wanted backups /var/backups/mcp-memory)
port=$(wanted port 8000)
https_port=$(wanted https-port 7443)
http_port=$(wanted http-port 7444)
http_listen=$(wanted http-listen 127.0.0.1)
upstream=$(wanted upstream port)
certificate='' key=''
if [[ -z ${option[new-certificate]:-} ]]; then
    certificate=$(wanted certificate "")
    key=$(wanted key "")
fi
((${#addresses[@]})) || read -ra addresses <<<"$(remembered addresses)"
mapfile -t own < <(hostname -I 2>/dev/null | tr ' ' '\n' | sed '/^$/d; /^fe80/d')
reach=${name:-${addresses[0]:-${own[0]:-}}}

check_wishes() {
    local each
    for each in "$port" "$https_port" "$http_port"; do
        if ! [[ $each =~ ^[0-9]{1,5}$ ]] || ((10#$each < 1 || 10#$each > 65535)); then
            fail "$each is no port" "Take one from 1 to 65535"
        fi
    done
    [[ $upstream == port || $upstream == unix ]] || fail "--upstream is port or unix"
    (( port != https_port && port != http_port && https_port != http_port )) || fail "two of the ports are the same"
    for each in "$name" "$http_listen" "${addresses[@]}"; do
        [[ $each =~ ^[A-Za-z0-9.:_-]*$ ]] || fail "'$each' is neither a name nor an address"
    done
    for each in "$root" "$backups" "$certificate" "$key"; do
        [[ -z $each || $each =~ ^/[A-Za-z0-9._/-]+$ ]] || fail "'$each': give a path from the top, of letters, digits and ._-/"
    done
    [[ -n $reach ]] || fail "by which name or address do other machines reach this one?" "--name or --address"
    if [[ -n $certificate || -n $key ]]; then
        [[ -r $certificate && -r $key ]] || fail "--certificate and --key go together, and both files must be there"
        each=$(openssl x509 -in "$certificate" -noout -pubkey 2>/dev/null) || fail "$certificate is no certificate"
        [[ $each == "$(openssl pkey -in "$key" -pubout 2>/dev/null)" ]] || fail "$key is not the key of $certificate"
        openssl x509 -in "$certificate" -noout -checkend 0 >/dev/null || fail "$certificate has expired"
        "$here/certificate.sh" --covers "$certificate" "$reach" \
            || fail "$certificate is not for $reach, or ends within 30 days" "Name it by --name, or renew it first"
    elif [[ -s $etc/tls/server.pem && -s $etc/tls/server.key && -z ${option[new-certificate]:-} ]]; then
        "$here/certificate.sh" --covers $etc/tls/server.pem "$reach" "${addresses[@]}" \
            || fail "the certificate in $etc/tls is not for $reach ${addresses[*]}, or ends within 30 days" \
                "--new-certificate makes another one; machines that pinned this one must be invited again"
    fi
}

check_machine() {
    local system version
    system=$(sed -n 's/^ID=//p' /etc/os-release | tr -d '"')
    version=$(sed -n 's/^VERSION_ID=//p' /etc/os-release | tr -d '"')
    case $system in
    debian) ((${version%%.*} >= 12)) || fail "Debian $version is too old" "Debian 12 or newer" ;;
    ubuntu) ((${version%%.*} >= 22)) || fail "Ubuntu $version is too old" "Ubuntu 22.04 or newer" ;;
    *) fail "this is $system; the installer knows Debian and Ubuntu" "docs/install.md says how to do it by hand, or with a container" ;;
    esac
    [[ -d /run/systemd/system ]] || fail "systemd does not run here" "In a container: deploy/compose.yaml"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || [[ -z $(command -v python3) ]] \
        || fail "Python 3.10 or newer is needed"
}

# Whoever listens there already, unless it is us. Nothing has been changed by then.
check_port() { # PORT OPTION WHO-IT-MAY-BE
    local who
    who=$(ss -Hltnp "sport = :$1" 2>/dev/null | head -n1) || true
    [[ -n $who ]] || return 0
    case $3 in
    server)
        if systemctl is-active --quiet mcp-memory.socket; then return 0; fi
        [[ $who == *"pid=$(systemctl show --property MainPID --value $unit 2>/dev/null),"* ]] && return 0
        ;;
    nginx) [[ $who == *'"nginx"'* && -n $(our_site) ]] && grep -q "[ :]$1\( ssl\)\?;" "$(our_site)" && return 0 ;;
    esac
    fail "port $1 is taken: $(sed -n 's/.*users:((\(.*\)).*/\1/p' <<<"$who")" "Stop that, or take another one: $2 NUMBER. Nothing was changed"
}

# Sites with an error would keep nginx from taking ours, too, and it is not ours to mend.
check_nginx() {
    local words
    if ! command -v nginx >/dev/null || ((EUID != 0)); then return 0; fi
    if [[ $(nginx -V 2>&1) == *without-http_limit_* ]]; then
        fail "this nginx has no limits (nginx-light of Ubuntu 22.04 is such a one)" "apt-get install nginx-core. Nothing was changed"
    fi
    words=$(nginx -t -q 2>&1) || fail "nginx's configuration has an error already: $words" "Mend that first. Nothing was changed"
}

site_file() { if [[ -d /etc/nginx/sites-available || ! -d /etc/nginx/conf.d ]]; then echo /etc/nginx/sites-available/mcp-memory; else echo /etc/nginx/conf.d/mcp-memory.conf; fi; }
our_site() { local file; file=$(site_file); if [[ -f $file ]]; then echo "$file"; fi; }

packages() {
    local missing=() pair
    local wants=("python3:python3" "openssl:openssl" "curl:curl" "ss:iproute2" "setpriv:util-linux")
    [[ -n ${option[no-nginx]:-} ]] || wants+=("nginx:nginx") # nginx-light of Ubuntu 22.04 lacks limits
    [[ -n ${option[no-fail2ban]:-} ]] || wants+=("fail2ban-client:fail2ban")
    [[ -n ${option[no-firewall]:-} && -n ${option[no-fail2ban]:-} ]] || wants+=("nft:nftables")
    for pair in "${wants[@]}"; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    [[ -n ${option[no-fail2ban]:-} ]] || /usr/bin/python3 -c 'import systemd.journal' 2>/dev/null || missing+=(python3-systemd)
    ((${#missing[@]})) || return 0
    say "Packages: ${missing[*]}"
    if [[ " ${missing[*]} " == *" nginx "* ]]; then fresh_nginx=1; fi
    do_ env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    do_ env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"
    # Debian's page on port 80 is nobody's site when nginx came with us.
    [[ -z ${fresh_nginx:-} ]] || do_ rm -f /etc/nginx/sites-enabled/default
}

account() {
    say "User and folders"
    getent passwd $user >/dev/null || do_ useradd --system --user-group --home-dir "$root" --no-create-home --shell /usr/sbin/nologin $user
    local folder
    for folder in $home $home/releases $etc $etc/tls; do
        [[ -d $folder ]] || do_ install -d -m 0755 "$folder"
    done
    [[ -d $etc/credentials ]] || do_ install -d -m 0750 -g $user $etc/credentials
    for folder in "$root" "$backups"; do
        if [[ ! -d $folder ]]; then
            do_ install -d -m 0700 -o $user -g $user "$folder"
        elif [[ $(stat -c %U "$folder") != "$user" ]]; then
            [[ -z $(ls -A "$folder") ]] || fail "$folder belongs to $(stat -c %U "$folder")" "chown -R $user: $folder, or name another one"
            do_ chown $user: "$folder"
        fi
    done
}

# Tokens are made once. A file that is there stays, also one that you put there yourself.
credentials() {
    say "Tokens"
    local each file
    for each in mcp sync; do
        file=$etc/credentials/${each}_token
        [[ -s $file ]] && continue
        [[ -z $dry ]] || { say "  would: make $file"; continue; }
        printf 'fm_%s_%s\n' "$each" "$(openssl rand -hex 32)" | install_file 0640 root:$user "$file"
    done
}

tls() {
    say "Certificate"
    if [[ -n $certificate ]]; then
        tls_certificate=$certificate tls_key=$key
        return
    fi
    tls_certificate=$etc/tls/server.pem tls_key=$etc/tls/server.key
    [[ ! -s $tls_certificate || ! -s $tls_key || -n ${option[new-certificate]:-} ]] || return 0
    local names=("$reach" "${addresses[@]}" "${own[@]}" localhost 127.0.0.1 ::1)
    mapfile -t names < <(printf '%s\n' "${names[@]}" | awk 'NF && !seen[$0]++')
    do_ "$here/certificate.sh" $etc/tls "${names[@]}"
    changed=1
}

# One line of .env. What you wrote there stays, unless an option of this run says otherwise.
keep_setting() { # NAME VALUE [OPTION]
    local line="$1=$2"
    if grep -q "^$1=" <<<"$env_text"; then
        [[ -n ${3:-} && -n ${option[$3]:-} ]] || return 0
        env_text=$(awk -v name="$1" -v line="$line" 'index($0, name "=") == 1 { print line; next } { print }' <<<"$env_text")
    else
        env_text+=$'\n'$line
    fi
}

settings() {
    say "Settings"
    local origin=https://$reach:$https_port
    [[ $reach == *:* ]] && origin=https://[$reach]:$https_port
    env_text="# Settings of the memory server; docs/settings.md lists all. After a change: systemctl restart $unit"
    [[ ! -f $home/.env ]] || env_text=$(<"$home/.env")
    keep_setting MEMORY_ROOT "$root" root
    keep_setting HOST 127.0.0.1
    keep_setting PORT "$port" port
    keep_setting PUBLIC_URL "$origin" origin
    keep_setting MEMORY_TRUSTED_PROXIES 127.0.0.1
    keep_setting MEMORY_LOG_FORMAT text
    if setpriv --reuid=$user --regid=$user --clear-groups test -r "$tls_certificate" 2>/dev/null; then
        keep_setting MEMORY_TLS_CERTIFICATE "$tls_certificate" certificate
    fi
    put 0640 root:$user $home/.env <<<"$env_text"
    put 0644 root:root $home/install.conf <<END
name=$name
addresses=${addresses[*]}
root=$root
backups=$backups
port=$port
https-port=$https_port
http-port=$http_port
http-listen=$http_listen
upstream=$upstream
certificate=$certificate
key=$key
END
}

program() {
    say "Server"
    local wheel=${option[wheel]:-} file mode
    if [[ -z $dry ]]; then
        install -d -m 0755 $home/deploy
        if [[ $here != "$home/deploy" ]]; then
            for file in "$here"/*; do
                mode=$(stat -c %a "$file")
                install_file "$mode" root:root "$home/deploy/${file##*/}" <"$file" >/dev/null
            done
        fi
    fi
    [[ -n $wheel ]] || wheel=$(find "$here/../dist" -name 'federated_memory-*.whl' -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n1 | cut -d' ' -f2-)
    if [[ -z $wheel && -f $here/../pyproject.toml && -z $dry ]]; then
        built=$(mktemp -d)
        say "  building the wheel"
        python3 -m venv "$built/venv"
        "$built/venv/bin/python" -m pip --quiet --disable-pip-version-check wheel --no-deps --wheel-dir "$built" "$here/.." \
            || fail "the wheel could not be built" "Build it elsewhere (make build), and name it by --wheel"
        wheel=$(echo "$built"/federated_memory-*.whl)
    fi
    if [[ -n $dry ]]; then
        say "  would: make a release of ${wheel:-this checkout}"
        return
    fi
    [[ -n $wheel || -e $home/current ]] || fail "there is no wheel" "make build, or --wheel FILE"
    release=$(basename "$(readlink $home/current 2>/dev/null || true)")
    [[ -z $wheel ]] || release=$("$here/release.sh" add "$wheel" "${option[wheels]:-}") || exit 1
    [[ -z ${built:-} ]] || rm -rf "$built"
}

units() {
    say "Services"
    local units=/etc/systemd/system addresses_own
    put_rendered 0644 root:root $units/$unit mcp-memory.service "ROOT=$root"
    # `invite` looks at the certificate that machines will see, at this machine's own addresses.
    [[ -n $dry ]] || install -d $units/$unit.d
    addresses_own=$(printf 'IPAddressAllow=%s\n' localhost "${own[@]}")
    put 0644 root:root $units/$unit.d/10-own-addresses.conf <<<"[Service]"$'\n'"$addresses_own"
    sockets
    if [[ -z ${option[no-backup]:-} ]]; then
        put_rendered 0644 root:root $units/mcp-memory-backup.service mcp-memory-backup.service "ROOT=$root" "BACKUPS=$backups"
        put 0644 root:root $units/mcp-memory-backup.timer <"$here/mcp-memory-backup.timer"
    fi
    put 0755 root:root /usr/local/bin/federated-memory <"$here/federated-memory.sh"
    do_ systemctl daemon-reload
    do_ systemctl enable --quiet $unit
    if [[ -z ${option[no-backup]:-} ]]; then do_ systemctl enable --quiet --now mcp-memory-backup.timer; fi
}

# With --upstream unix systemd listens for the server; otherwise it does so itself.
sockets() {
    local file=$units/mcp-memory.socket before=$changed group
    group=$(id -gn "$(sed -n 's/^user  *\([^; ]*\).*/\1/p' /etc/nginx/nginx.conf 2>/dev/null | head -n1)" 2>/dev/null) || group=www-data
    if [[ $upstream == unix ]]; then
        put_rendered 0644 root:root "$file" mcp-memory.socket "PORT=$port" "PROXY_GROUP=${group:-www-data}"
        put 0644 root:root $units/$unit.d/20-unix-socket.conf <"$here/mcp-memory-unix-socket.conf"
        do_ systemctl daemon-reload
        do_ systemctl enable --quiet mcp-memory.socket
    elif [[ -e $file ]]; then
        do_ systemctl stop mcp-memory.socket $unit
        do_ systemctl disable --quiet mcp-memory.socket
        do_ rm -f "$file" $units/$unit.d/20-unix-socket.conf
        changed=1
    fi
    # The port passes from one to the other while neither listens.
    if ((changed != before)) && [[ -z $dry ]]; then systemctl stop $unit mcp-memory.socket 2>/dev/null || true; fi
}

start() {
    say "Start"
    [[ -z $dry ]] || { say "  would: start $unit and wait until it is healthy"; return; }
    if ((!changed)) && [[ $(readlink $home/current) == "releases/$release" ]] && systemctl is-active --quiet $unit && "$home/deploy/release.sh" healthy; then
        say "  runs already, nothing has changed"
        return
    fi
    "$home/deploy/release.sh" switch "$release" || exit 1
}

firewall() {
    [[ -z ${option[no-firewall]:-} ]] || return 0
    say "Limit on new connections"
    put_rendered 0644 root:root $home/nftables.conf nftables.conf "PORTS=$https_port, $http_port"
    put 0644 root:root /etc/systemd/system/mcp-memory-firewall.service <"$here/mcp-memory-firewall.service"
    do_ systemctl daemon-reload
    do_ systemctl enable --quiet mcp-memory-firewall.service
    do_ systemctl restart mcp-memory-firewall.service \
        || say "  the kernel here takes no such rule (a container?): nginx's own limits hold, this one does not"
}

# Our one file beside the other sites. When nginx does not like the whole with it, it goes away again.
proxy() {
    [[ -z ${option[no-nginx]:-} ]] || return 0
    say "nginx"
    local file listen before='' where=127.0.0.1:$port
    file=$(site_file)
    listen="listen $https_port ssl;"
    [[ ! -f /proc/net/if_inet6 ]] || listen+=" listen [::]:$https_port ssl;"
    [[ $http_listen == *:* ]] && listen+=" listen [$http_listen]:$http_port;" || listen+=" listen $http_listen:$http_port;"
    [[ ! -f $file ]] || before=$(<"$file")
    [[ $upstream == unix ]] && where=unix:/run/mcp-memory/server.sock
    put_rendered 0644 root:root "$file" nginx.conf "UPSTREAM=$where" "LISTEN=$listen" \
        "SERVER_NAMES=$reach localhost" "CERTIFICATE=$tls_certificate" "CERTIFICATE_KEY=$tls_key" LOG_FOLDER=/var/log/nginx
    [[ -z $dry ]] || { say "  would: reload nginx"; return; }
    if [[ $file == */sites-available/* ]]; then ln -sfn "$file" /etc/nginx/sites-enabled/mcp-memory; fi
    local words
    if ! words=$(nginx -t -q 2>&1); then
        if [[ -n $before ]]; then printf '%s\n' "$before" >"$file"; else rm -f "$file" /etc/nginx/sites-enabled/mcp-memory; fi
        fail "nginx does not take the site: $words" "It was taken out again; the other sites are as they were"
    fi
    systemctl enable --quiet nginx
    systemctl reload-or-restart nginx
}

bans() {
    [[ -z ${option[no-fail2ban]:-} ]] || return 0
    say "fail2ban"
    put 0644 root:root /etc/fail2ban/filter.d/mcp-memory.conf <"$here/fail2ban-filter.conf"
    local text words
    text=$("$here/render.sh" "$here/fail2ban-jail.conf" "PORTS=$https_port,$http_port") || exit 1
    # Debian's sshd jail looks for a file that is not there without rsyslog, and then nothing starts at all. Whoever has
    # it running has settled that, and it stays as it is.
    if [[ -f $home/.sshd-jail-is-ours ]] || [[ $(fail2ban-client -t 2>&1) == *"log file for sshd jail"* ]]; then
        text+=$'\n\n[sshd]\nbackend = systemd'
        [[ -n $dry ]] || touch $home/.sshd-jail-is-ours
    fi
    put 0644 root:root /etc/fail2ban/jail.d/mcp-memory.conf <<<"$text"
    [[ -z $dry ]] || { say "  would: reload fail2ban"; return; }
    if ! words=$(fail2ban-client -t 2>&1); then
        rm -f /etc/fail2ban/jail.d/mcp-memory.conf /etc/fail2ban/filter.d/mcp-memory.conf
        fail "fail2ban does not take the jail: $words" "It was taken out again"
    fi
    systemctl enable --quiet fail2ban
    if systemctl is-active --quiet fail2ban; then fail2ban-client reload >/dev/null; else systemctl restart fail2ban; fi
}

goodbye() {
    [[ -z $dry ]] || { say "Nothing was changed."; return; }
    say ""
    say "Federated Memory serves $(setting PUBLIC_URL)/mcp from $(setting MEMORY_ROOT)."
    say "  how it is      federated-memory doctor; systemctl status $unit; journalctl -u $unit"
    say "  settings       $home/.env        tokens   $etc/credentials/"
    say "  backups        $backups, every night, 14 days. Copy them to another machine: docs/operate.md"
    [[ -z ${option[no-invite]:-} ]] || return 0
    say ""
    say "Let the first machine in (another one later: federated-memory invite NAME):"
    /usr/local/bin/federated-memory invite "${option[machine]:-laptop}" --expires 1h
}

[[ -n $dry && $EUID != 0 ]] || need_root
check_machine
check_wishes
[[ -n $dry ]] || lock
check_port "$port" --port server
if [[ -z ${option[no-nginx]:-} ]]; then
    check_nginx
    check_port "$https_port" --https-port nginx
    check_port "$http_port" --http-port nginx
fi
packages
account
credentials
tls
settings
program
units
start
firewall
proxy
bans
goodbye
