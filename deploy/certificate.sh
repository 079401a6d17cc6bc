#!/usr/bin/env bash
# A self-signed certificate for the names and addresses by which machines reach this server:
#     certificate.sh FOLDER NAME-OR-ADDRESS...        writes FOLDER/server.pem (public) and FOLDER/server.key (0600)
#     certificate.sh --covers FILE NAME-OR-ADDRESS... 0 when FILE is good for all of them for 30 days more
# It is a server's certificate and no authority (CA:FALSE; Codex refuses others), and says its names as SAN, for the common
# name alone is not looked at any more. Machines are told its fingerprint by `federated-memory invite`.
set -euo pipefail

is_address() { [[ $1 == *:* || $1 =~ ^[0-9]+(\.[0-9]+){3}$ ]]; }

covers() {
    local file=$1 each
    shift
    openssl x509 -in "$file" -noout -checkend $((30 * 86400)) >/dev/null || return 1
    for each in "$@"; do
        # -checkhost always exits 0: its words decide
        if is_address "$each"; then
            openssl x509 -in "$file" -noout -checkip "$each" | grep -q 'does match' || return 1
        else
            openssl x509 -in "$file" -noout -ext subjectAltName 2>/dev/null | grep -q DNS: || return 1
            openssl x509 -in "$file" -noout -checkhost "$each" | grep -q 'does match' || return 1
        fi
    done
}

if [[ ${1:-} == --covers ]]; then
    shift
    covers "$@"
    exit
fi

folder=$1
shift
(($#)) || { echo "certificate.sh: for which names?" >&2; exit 2; }
names=()
for each in "$@"; do
    if is_address "$each"; then names+=("IP:$each"); else names+=("DNS:$each"); fi
done
umask 077
new=$(mktemp -d "$folder/.new.XXXXXX")
trap 'rm -rf "$new"' EXIT
# A file and not -addext: some systems' openssl.cnf adds CA:TRUE to what -x509 makes.
cat >"$new/openssl.cnf" <<END
[req]
distinguished_name = subject
x509_extensions = server
prompt = no
[subject]
CN = Federated Memory
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
subjectAltName = $(IFS=,; echo "${names[*]}")
END
openssl req -x509 -config "$new/openssl.cnf" -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days 825 \
    -keyout "$new/server.key" -out "$new/server.pem" 2>"$new/log" || { cat "$new/log" >&2; exit 1; }
covers "$new/server.pem" "$@" || { echo "certificate.sh: the certificate made is not good for: $*" >&2; exit 1; }
chmod 0644 "$new/server.pem"
mv -f "$new/server.key" "$folder/server.key"
mv -f "$new/server.pem" "$folder/server.pem"
