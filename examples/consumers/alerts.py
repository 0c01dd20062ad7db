"""Acts on metawatch's alerts: pip install nats-py; python alerts.py nats://user:password@127.0.0.1:4222

Each incident is paged once and closed once, whatever is delivered twice; whoever starts late learns of it from a
reminder. Missing heartbeats are an alarm, too: nobody watches, or we are cut off.
"""

import asyncio
import json
import sys
import time

import nats


class Consumer:
    def __init__(self) -> None:
        self.incidents: dict[str, tuple[int, str]] = {}  # incident -> the last seq, and its state
        self.patience = 30.0  # seconds without a heartbeat; heartbeats say how many to expect
        self.last_beat = time.monotonic()
        self.quiet = False

    async def on_alert(self, message) -> None:
        try:
            event = json.loads(message.data)
            incident, seq, state = str(event["incident"]), int(event["seq"]), event["state"]
            reason, summary = event["reason"], event["summary"]
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            print(f"{message.subject} carries no alert event: {error!r}", file=sys.stderr)
            return
        last_seq, last_state = self.incidents.get(incident, (0, ""))
        if seq <= last_seq:
            return  # delivered again: an event's id is its incident and its seq
        self.incidents.pop(incident, None)
        self.incidents[incident] = (seq, state)
        if len(self.incidents) > 1_000:
            del self.incidents[next(iter(self.incidents))]
        if state == "firing" and last_state != "firing":
            print(f"PAGE     {summary}", flush=True)
        elif state == "resolved" and reason != "withdrawn":
            print(f"all well {summary}", flush=True)

    async def on_heartbeat(self, message) -> None:
        try:
            self.patience = max(10.0, float(json.loads(message.data)["interval_ms"]) / 1_000 * 4)
        except (ValueError, TypeError, KeyError, OverflowError):
            return
        self.last_beat = time.monotonic()
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
