#!/bin/sh
# Keeps /srv/mirror a verified copy of $UPSTREAM; see compose.yaml. ROUNDS ends it after so many, for a test.
set -eu

anchor=${ANCHOR_FOLDER:-/anchor} mirror=${MIRROR_FOLDER:-/srv/mirror}

if [ -z "${KEDGE:-}" ]; then
    python3 -m venv /tmp/kedge
    /tmp/kedge/bin/python -m pip install --quiet --no-cache-dir "$KEDGE_SOURCE"
    KEDGE=/tmp/kedge/bin/kedge
fi
"$KEDGE" anchor show upstream >/dev/null 2>&1 || "$KEDGE" anchor add upstream --root "$anchor/root.json" --mirror "$UPSTREAM"

round=0
while :; do
    # What is refused, or cannot be had, changes nothing in the copy: it is said, and tried again.
    "$KEDGE" mirror sync "$mirror" --anchor upstream --keep-days 30 || echo "sync: exit status $?" >&2
    round=$((round + 1))
    [ "$round" != "${ROUNDS:-0}" ] || exit 0
    sleep "$INTERVAL_S"
done
