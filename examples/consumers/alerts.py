"""Acts on metawatch's alerts: pip install nats-py; python alerts.py nats://user:password@127.0.0.1:4222

Each incident is paged once and closed once, whatever is delivered twice. What did not arrive, because this program
started late or looked for another server just then, is learned from the heartbeats; and when those are missing, that is
an alarm, too: nobody watches, or we are cut off.
"""

import asyncio
import json
import sys
import time

import nats


class Consumer:
    def __init__(self) -> None:
        # incident -> the last seq, the state, when that was told, and its words
        self.incidents: dict[str, tuple[int, str, str, str]] = {}
        self.listed: set[str] = set()  # what the last heartbeat listed as firing
        self.calm = False  # whether it said that all is well
        self.patience = 30.0  # seconds without a heartbeat; heartbeats say how many to expect
        self.last_beat = time.monotonic()
        self.quiet = False

    def learn(self, incident: str, seq: int, state: str, at: str, words: str) -> None:
        before = self.incidents.pop(incident, (0, "", "", ""))[1]
        self.incidents[incident] = (seq, state, at, words)
        if len(self.incidents) > 1_000:
            del self.incidents[next(iter(self.incidents))]
        if state == "firing" and before != "firing":
            print(f"PAGE     {words}", flush=True)
        elif state == "resolved" and before == "firing":
            print(f"all well {words}", flush=True)

    async def on_alert(self, message) -> None:
        try:
            event = json.loads(message.data)
            incident, seq, state = str(event["incident"]), int(event["seq"]), str(event["state"])
            at, summary = str(event["timestamp"]), str(event["summary"])
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            print(f"{message.subject} carries no alert event: {error!r}", file=sys.stderr)
            return
        # Else it is delivered again: an event's id is its incident and its seq.
        if seq > self.incidents.get(incident, (0,))[0]:
            self.learn(incident, seq, state, at, summary)

    async def on_heartbeat(self, message) -> None:
        try:
            beat = json.loads(message.data)
            patience = max(10.0, float(beat["interval_ms"]) / 1_000 * 4)
            at, status = str(beat["timestamp"]), beat["status"]
            firing = {
                str(one["incident"]): f"{one['check']} {one['name']}, since {one['since']}"
                for one in beat["active"]
                if one["check"] == "META_001" and one["state"] == "firing"
            }
        except (ValueError, TypeError, KeyError, OverflowError):
            return
        # The event itself may be on its way: what only one heartbeat says can wait for the next.
        for incident in firing.keys() & self.listed:
            seq, state, told_at, _ = self.incidents.get(incident, (0, "", "", ""))
            if state != "firing" and at > told_at:
                self.learn(incident, seq, "firing", at, firing[incident])
        # Only when every peer is well, what is not listed is over.
        for incident, (seq, state, told_at, words) in list(self.incidents.items()):
            if status == "ok" and self.calm and state == "firing" and at > told_at:
                self.learn(incident, seq, "resolved", at, f"{words}: over")
        self.listed, self.calm = set(firing), status == "ok"
        self.patience, self.last_beat = patience, time.monotonic()
        if self.quiet:
            print("all well metawatch is heard again", flush=True)
        self.quiet = False

    def look_for_quiet(self) -> None:
        if not self.quiet and time.monotonic() - self.last_beat > self.patience:
            self.quiet = True
            print("PAGE     metawatch is quiet: nobody watches", flush=True)


async def main(server: str) -> None:
    consumer = Consumer()
    client = await nats.connect(server, max_reconnect_attempts=-1)
    await client.subscribe("metawatch.alert.META_001.>", cb=consumer.on_alert)
    await client.subscribe("metawatch.heartbeat", cb=consumer.on_heartbeat)
    await client.flush()
    print("listening", flush=True)
    while True:
        await asyncio.sleep(1)
        consumer.look_for_quiet()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"))
