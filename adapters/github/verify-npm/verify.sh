#!/usr/bin/env bash
# The second step of action.yml. Its inputs stand in KEDGE_*; an empty one was not given.
set -euo pipefail

kedge=$RUNNER_TEMP/kedge/bin/kedge

if [ -n "$KEDGE_ROOT" ]; then
    if [ -z "$KEDGE_ANCHOR" ] || [ -z "$KEDGE_MIRROR" ]; then
        echo "::error::the input root needs the inputs anchor and mirror, too" >&2
        exit 2
    fi
    # An anchor of this job alone.
    export KEDGE_CONFIG_DIR=$RUNNER_TEMP/kedge-config KEDGE_STATE_DIR=$RUNNER_TEMP/kedge-state
    speaks_for=()
    if [ -n "$KEDGE_UPSTREAM" ]; then speaks_for=(--registry "$KEDGE_UPSTREAM"); fi
    rm -rf "$KEDGE_CONFIG_DIR"
    "$kedge" anchor add "$KEDGE_ANCHOR" --root "$KEDGE_ROOT" --mirror "$KEDGE_MIRROR" ${speaks_for[@]+"${speaks_for[@]}"} >/dev/null
fi

line=(verify npm)
for option in registry upstream anchor sarif evidence; do
    name=KEDGE_${option^^}
    if [ -n "${!name}" ]; then line+=("--$option" "${!name}"); fi
done
case $KEDGE_STRICT in
    true) line+=(--strict) ;;
    false | "") ;;
    *)
        echo "::error::the input strict is true or false, not: $KEDGE_STRICT" >&2
        exit 2
        ;;
esac

status=0
"$kedge" "${line[@]}" -- "$KEDGE_PATH" | tee "$RUNNER_TEMP/kedge-report" || status=${PIPESTATUS[0]}

# The report stays readable beside the job.
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
    {
        echo "### kedge verify npm: exit status $status"
        sed 's/^/    /' "$RUNNER_TEMP/kedge-report"
    } >>"$GITHUB_STEP_SUMMARY"
fi
exit "$status"
