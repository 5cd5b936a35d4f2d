#!/bin/sh
# Certificates for TLS between Ray's processes: an authority of the cluster's own, and one certificate for all its hosts.
#
#   examples/clusters/make_certificates.sh ~/.ray/tls 10.20.0.1 10.20.0.2 10.20.1.1 ...
#
# Every host that will ever join must be named. ca.key signs more certificates: keep it off the cluster. docs/security.md
# says what else must be set.
set -eu
umask 077
directory=$1
shift
mkdir -p "$directory"
names="DNS:localhost,IP:127.0.0.1$(printf ',IP:%s' "$@")"
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
cd "$directory"
# shellcheck disable=SC2086
openssl req -x509 $key -days 3650 -subj /CN=raytrade-authority -keyout ca.key -out ca.crt 2>/dev/null
# shellcheck disable=SC2086
openssl req $key -subj /CN=raytrade-host -keyout server.key -out server.csr 2>/dev/null
printf 'subjectAltName=%s\n' "$names" > server.ext
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 825 -extfile server.ext -out server.crt 2>/dev/null
rm server.csr server.ext ca.srl
echo "$directory: ca.crt, server.crt and server.key for $names"
