#!/bin/bash
# Acts on metawatch's alerts with the nats CLI and jq: ./alerts.sh --server nats://127.0.0.1:4222 --user … --password …
#
# Each incident is paged once and closed once, whatever is delivered twice. What did not arrive, because this script
# started late or looked for another server just then, is learned from the heartbeats; and when those are missing, that is
# an alarm, too: nobody watches, or we are cut off.
#
# Several systems may be heard, and several watchers of each. A watcher's word ends what it told of itself, and what
# another one of its system left behind when it fell silent. Times of different watchers are never compared.
set -u

# Kept are the incidents and, by instance, the watchers that speak; the first one, without a name, stands for nobody.
decide='
def say($word; $words): .out += [$word + ([$words | tostring] | @tsv)];
def learn($incident; $now):
  (.incidents[$incident].state // "") as $before
  | (if (.incidents | length) > 1000 then .incidents = {} else . end)
  | .incidents[$incident] = $now
  | if $now.state == "firing" and $before != "firing" then say("PAGE     "; $now.words)
    elif $now.state == "resolved" and $before == "firing" then say("all well "; $now.words)
    else . end;
# Who tells it, in which of its epochs (their numbers grow whatever its clock does), and when that is heard.
def source:
  {system: (.system // ""), instance: .monitor.instance, heard: now,
   order: [(.epoch.id | split("-") | last | tonumber), .timestamp]};
# An event is known by its incident and its seq: else it is delivered again.
# A warning is nothing to page for; an incident that became critical stays so until it ends.
def event($e):
  if $e.severity != "critical" and (.incidents[$e.incident] | not) then .
  elif $e.seq > (.incidents[$e.incident].seq // 0) and $e.seq < 9007199254740992 then
    ($e | source) as $told
    # It answers for what another watcher told while the two could not hear each other.
    | reduce ($e.merged // [])[] as $one (.; if .incidents[$one] then .incidents[$one] += $told else . end)
    | learn($e.incident; {seq: $e.seq, state: $e.state, words: $e.summary} + $told)
  else . end;
# The watcher that speaks may have learned meanwhile which system it watches.
def hear($told; $patience):
  {listed: {}, calm: false, began: $told.heard} as $new
  | (.speakers[$told.instance] // {system: $told.system, $patience, last: $told.heard} + $new) as $before
  | ([$told.system, $before.system] + [select(.speakers[""]) | ""]) as $names
  | .quiet as $quiet
  | if any($names[]; $quiet[.]) then say("all well "; "metawatch is heard again \($told.system)" | rtrimstr(" ")) else . end
  | reduce $names[] as $name (.; del(.quiet[$name])) | del(.speakers[""])
  | .speakers[$told.instance] = $before
      + (if $told.heard - $before.last > $before.patience then $new else {} end)
      + {system: $told.system, $patience, last: $told.heard}
  | if (.speakers | length) > 1000 then .speakers |= (to_entries | sort_by(.value.last) | .[1:] | from_entries) else . end;
# The event itself may be on its way: what only one heartbeat says can wait for the next.
def listed($told; $speaker; $one):
  (.incidents[$one.incident] // {seq: 0}) as $known
  | if $known.state == "firing" then .incidents[$one.incident] += $told
    elif $speaker.listed[$one.incident] and ($known.instance != $told.instance or $told.order > $known.order) then
      learn($one.incident; $known + {state: "firing", words: "\($one.check) \($one.name), since \($one.since)"} + $told)
    else . end;
def may_end($told; $known):
  if $told.instance == $known.instance then $told.order > $known.order else
    (.speakers[$known.instance] // {last: 0, patience: 10}) as $other
    | $told.system == $known.system and $told.heard - ([$known.heard, $other.last] | max) > $other.patience
  end;
# Only when nothing is critical, what is not listed is over.
def over($told; $one):
  .incidents[$one] as $known
  | if $known.state == "firing" and may_end($told; $known) then
      learn($one; $known + {state: "resolved", words: "\($known.words): over"} + $told)
    else . end;
def beat($e):
  ($e | source) as $told
  | ($e.status == "ok" or $e.calm == true) as $calm
  | [$e.active[] | objects | select(.severity == "critical" and .state == "firing")] as $firing
  | hear($told; [10, ([$e.interval_ms / 250, 14400] | min)] | max)
  | .speakers[$told.instance] as $speaker
  | reduce $firing[] as $one (.; listed($told; $speaker; $one))
  | reduce (if $calm and $speaker.calm then .incidents | keys[] else empty end) as $one (.; over($told; $one))
  | .speakers[$told.instance] += {listed: ([$firing[] | {(.incident): true}] | add // {}), calm: $calm};
def quiet($now; $system):
  [.speakers[] | select(.system == $system)] as $own
  | ([$own[].last] | max) as $last
  | ([.speakers[] | select(.began > $last).system] | unique) as $heirs
  | if .quiet[$system] or any($own[]; $now - .last <= .patience) then .
    # Watchers that tell no system fell silent when those of one began: another version was installed.
    elif ($heirs | length) == 1 and ($system == "" or $heirs[0] == "") then
      (.speakers[], .incidents[]) |= (if .system == $system then .system = $heirs[0] else . end)
    else .quiet[$system] = true | say("PAGE     "; "metawatch is quiet: nobody watches \($system)" | rtrimstr(" ")) end;
def take($e):
  (if ($e.interval_ms | type) == "number" and ($e.active | type) == "array" then beat($e)
   elif ($e.incident | type) == "string" and ($e.seq | type) == "number" then event($e)
   else . end)
  | reduce ([.speakers[].system] | unique[]) as $system (.; quiet(now; $system));
foreach (inputs | fromjson? | objects) as $e (
  {speakers: {"": {system: "", listed: {}, calm: false, patience: 30, began: now, last: now}}, incidents: {}, quiet: {}};
  .out = [] | . as $before | try take($e) catch $before;
  .out[])'

# Lines as they come, and an empty object each second in which none does: a line can come in parts.
ticking() {
    line=
    while :; do
        if IFS= read -r -t 1 part; then
            printf '%s\n' "$line$part"
            line=
        elif [ $? -gt 128 ]; then
            line=$line$part
            echo '{}'
        else
            return
        fi
    done
}

echo listening
nats "$@" sub --raw 'metawatch.alert.>' metawatch.heartbeat | ticking | jq -nRr --unbuffered "$decide"
echo "PAGE     the alerts of metawatch cannot be heard any more"
exit 1
