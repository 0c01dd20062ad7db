#!/bin/bash
# Acts on metawatch's alerts with the nats CLI and jq: ./alerts.sh --server nats://127.0.0.1:4222 --user … --password …
#
# Each incident is paged once and closed once, whatever is delivered twice; whoever starts late learns of it from a
# reminder. Missing heartbeats are an alarm, too: nobody watches, or we are cut off.
set -u

# The state of each incident is kept here. An event's id is its incident and its seq: no later seq, no news.
decide='
def page: [.summary | tostring] | @tsv;
def take($e):
  .out = null
  | if ($e.interval_ms | type) == "number" then
      .out = "beat \([10, ([$e.interval_ms / 250, 14400] | min)] | max | ceil)"
    elif ($e.incident | type) == "string" and ($e.seq | type) == "number" then
      (.known[$e.incident] // {seq: 0}) as $last
      | if $e.seq <= $last.seq then .
        else
          (if (.known | length) > 1000 then .known = {} else . end)
          | .known[$e.incident] = ($e | {seq, state})
          | if $e.state == "firing" and $last.state != "firing" then .out = "PAGE     \($e | page)"
            elif $e.state == "resolved" and $e.reason != "withdrawn" then .out = "all well \($e | page)"
            else . end
        end
    else . end;
foreach (inputs | fromjson? | objects) as $e ({known: {}}; take($e); .out // empty)'

events() {
    nats "$@" sub --raw 'metawatch.alert.META_001.>' metawatch.heartbeat | jq -nRr --unbuffered "$decide"
}

limit=30 quiet= # seconds without a word; heartbeats say how many to expect
echo listening
while :; do
    if read -r -t "$limit" line; then
        case "$line" in
        "beat "*) limit=${line#beat } ;;
        *) echo "$line" ;;
        esac
        [ -z "$quiet" ] || echo "all well metawatch is heard again"
        quiet=
    elif [ $? -le 128 ]; then
        echo "PAGE     the alerts of metawatch cannot be heard any more"
        exit 1
    elif [ -z "$quiet" ]; then
        echo "PAGE     metawatch is quiet: nobody watches"
        quiet=yes
    fi
done < <(events "$@")
