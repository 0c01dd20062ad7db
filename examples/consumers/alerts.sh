#!/bin/bash
# Acts on metawatch's alerts with the nats CLI and jq: ./alerts.sh --server nats://127.0.0.1:4222 --user … --password …
#
# Each incident is paged once and closed once, whatever is delivered twice. What did not arrive, because this script
# started late or looked for another server just then, is learned from the heartbeats; and when those are missing, that is
# an alarm, too: nobody watches, or we are cut off.
set -u

# The state of each incident is kept here. An event's id is its incident and its seq: no later seq, no news.
decide='
def line($word; $words): $word + ([$words | tostring] | @tsv);
def learn($incident; $now):
  (.known[$incident].state // "") as $before
  | (if (.known | length) > 1000 then .known = {} else . end)
  | .known[$incident] = $now
  | if $now.state == "firing" and $before != "firing" then .out += [line("PAGE     "; $now.words)]
    elif $now.state == "resolved" and $before == "firing" then .out += [line("all well "; $now.words)]
    else . end;
def event($e):
  if $e.seq > (.known[$e.incident].seq // 0) then
    learn($e.incident; {seq: $e.seq, state: $e.state, at: $e.timestamp, words: $e.summary})
  else . end;
# The event itself may be on its way: what only one heartbeat says can wait for the next.
def listed($at; $one):
  (.known[$one.incident] // {seq: 0, state: "", at: ""}) as $known
  | if .listed[$one.incident] and $known.state != "firing" and $at > $known.at then
      learn($one.incident; {seq: $known.seq, state: "firing", $at, words: "META_001 \($one.name), since \($one.since)"})
    else . end;
# Only when every peer is well, what is not listed is over.
def over($at; $one):
  .known[$one] as $known
  | if .calm and $known.state == "firing" and $at > $known.at then
      learn($one; {seq: $known.seq, state: "resolved", $at, words: "\($known.words): over"})
    else . end;
def take($e):
  .out = []
  | if ($e.interval_ms | type) == "number" then
      [$e.active // [] | .[] | objects | select(.check == "META_001" and .state == "firing")] as $firing
      | reduce $firing[] as $one (.; listed($e.timestamp; $one))
      | reduce (if $e.status == "ok" then .known | keys[] else empty end) as $one (.; over($e.timestamp; $one))
      | .calm = ($e.status == "ok") | .listed = ([$firing[] | {(.incident): true}] | add // {})
      | .out += ["beat \([10, ([$e.interval_ms / 250, 14400] | min)] | max | ceil)"]
    elif ($e.incident | type) == "string" and ($e.seq | type) == "number" then event($e)
    else . end;
foreach (inputs | fromjson? | objects) as $e ({known: {}}; take($e); .out[])'

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
