"""Acts on metawatch's alerts: pip install nats-py; python alerts.py nats://user:password@127.0.0.1:4222

Each event is acted on once, whatever is delivered twice; and when the watcher itself goes quiet, that is an alarm too.
"""

import asyncio
import json
import sys
import time

import nats

QUIET_AFTER = 30.0  # seconds without a heartbeat: three times the longest interval that is used here


async def main(server: str) -> None:
    incidents: dict[str, int] = {}  # incident -> the last seq that was acted on
    last_beat = time.monotonic()

    async def on_alert(message) -> None:
        event = json.loads(message.data)
        if event["seq"] <= incidents.get(event["incident"], 0):
            return  # delivered again
        incidents[event["incident"]] = event["seq"]
        if event["state"] == "firing" and event["reason"] in ("reported", "observed"):
            print(f"PAGE     {event['summary']}", flush=True)
        elif event["state"] == "resolved":
            print(f"all well {event['summary']}", flush=True)

    async def on_heartbeat(_message) -> None:
        nonlocal last_beat
        last_beat = time.monotonic()

    client = await nats.connect(server, max_reconnect_attempts=-1)
    await client.subscribe("metawatch.alert.META_001.>", cb=on_alert)
    await client.subscribe("metawatch.heartbeat", cb=on_heartbeat)
    print("listening", flush=True)
    while True:
        await asyncio.sleep(1)
        if time.monotonic() - last_beat > QUIET_AFTER:
            print("PAGE     metawatch is quiet: nobody watches", flush=True)
            last_beat = time.monotonic()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"))
