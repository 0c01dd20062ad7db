#!/bin/sh
# Acts on metawatch's alerts with metawatch and jq: ./alerts.sh --server nats://127.0.0.1:4222 --user … --password …
#
# Each event is acted on once, whatever is delivered twice. `metawatch listen` itself says on stderr when the watcher
# goes quiet.
set -eu
tab=$(printf '\t')
seen=
echo listening
metawatch listen --format json "$@" |
    jq -r --unbuffered '.event | select(.check == "META_001") | [.id, .state, .reason, .summary] | @tsv' |
    while IFS="$tab" read -r id state reason summary; do
        case " $seen " in *" $id "*) continue ;; esac
        seen="$id $(echo "$seen" | cut -d ' ' -f 1-99)"
        case "$state $reason" in
        "firing reported" | "firing observed") echo "PAGE     $summary" ;;
        resolved*) echo "all well $summary" ;;
        esac
    done
