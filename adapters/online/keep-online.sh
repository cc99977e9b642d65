#!/bin/sh
# Signs snapshot and timestamp when that is due, and publishes them: one run of kedge-repo online --job.
#
#   KEDGE_WORKSPACE        the workspace's folder
#   KEDGE_PASSPHRASE_FILE  optional: the file that holds the passphrase (or PIN) of the online key, readable by this user only
#   KEDGE_METRICS          optional: the file for Prometheus' node exporter, such as …/textfile/kedge.prom
#
# The exit code is kedge-repo's: 0 done or nothing due; 1 try again (it has tried several times); 4 something has
# expired, and people must sign; 6 the key is the wrong one. Every other one asks for somebody to look as well.
set -eu

: "${KEDGE_WORKSPACE:?is not set: the folder of the workspace}"
set -- kedge-repo online --job -w "$KEDGE_WORKSPACE"
[ -z "${KEDGE_METRICS:-}" ] || set -- "$@" --metrics "$KEDGE_METRICS"
if [ -n "${KEDGE_PASSPHRASE_FILE:-}" ]; then
    exec "$@" --passphrase-fd 3 3<"$KEDGE_PASSPHRASE_FILE"
fi
exec "$@" </dev/null
