"""Acts on metawatch's critical alerts: pip install nats-py; python alerts.py nats://user:password@127.0.0.1:4222,nats://…

Each incident is paged once and closed once, whatever is delivered twice. What did not arrive, because this program
started late or looked for another server just then, is learned from the heartbeats; and when those are missing, that is
an alarm, too: nobody watches, or we are cut off.

Several systems may be heard, and several watchers of each. A watcher's word ends what it told of itself, and what another
one of its system left behind when it fell silent. Times of different watchers are never compared.
"""

import asyncio
import json
import sys
import time
from urllib.parse import unquote, urlsplit

import nats

BAD = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
NOTHING = {"seq": 0, "state": "", "words": "", "system": "", "instance": "", "order": (), "heard": 0.0}


def source(message: dict) -> dict:
    """Who tells it, in which of its epochs (their numbers grow whatever its clock does), and when that is heard."""
    order = (int(message["epoch"]["id"].rsplit("-", 1)[1]), str(message["timestamp"]))
    instance, system = str(message["monitor"]["instance"]), str(message.get("system") or "")
    return {"system": system, "instance": instance, "order": order, "heard": time.monotonic()}


class Consumer:
    def __init__(self) -> None:
        self.incidents: dict[str, dict] = {}
        # By instance: its system, what its last heartbeat listed as firing, whether that said that all is well, for how
        # many seconds it may be silent, and since when and until when it was heard. The first entry stands for nobody.
        now = time.monotonic()
        self.speakers = {"": {"system": "", "listed": set(), "calm": False, "patience": 30.0, "began": now, "last": now}}
        self.quiet: set[str] = set()  # systems

    def learn(self, incident: str, now: dict) -> None:
        before = self.incidents.pop(incident, NOTHING)["state"]
        self.incidents[incident] = now
        if len(self.incidents) > 1_000:
            del self.incidents[next(iter(self.incidents))]
        if now["state"] == "firing" and before != "firing":
            print(f"PAGE     {now['words']}", flush=True)
        elif now["state"] == "resolved" and before == "firing":
            print(f"all well {now['words']}", flush=True)

    async def on_alert(self, message) -> None:
        try:
            event = json.loads(message.data)
            incident, seq = str(event["incident"]), int(event["seq"])
            told, merged = source(event), [str(one) for one in event.get("merged") or []]
            now = {"seq": seq, "state": str(event["state"]), "words": str(event["summary"]), **told}
        except BAD as error:
            print(f"{message.subject} carries no alert event: {error!r}", file=sys.stderr)
            return
        # A warning is nothing to page for; an incident that became critical stays so until it ends.
        if event.get("severity") != "critical" and incident not in self.incidents:
            return
        # Else it is delivered again (an event's id is its incident and its seq), or its number cannot be.
        if self.incidents.get(incident, NOTHING)["seq"] < seq < 2**53:
            # It answers for what another watcher told while the two could not hear each other.
            for known in (self.incidents[one] for one in merged if one in self.incidents):
                known.update(told)
            self.learn(incident, now)

    async def on_heartbeat(self, message) -> None:
        try:
            beat = json.loads(message.data)
            patience = min(14_400.0, max(10.0, float(beat["interval_ms"]) / 1_000 * 4))
            told, calm = source(beat), beat["status"] == "ok" or beat.get("calm") is True
            firing = {
                str(one["incident"]): f"{one['check']} {one['name']}, since {one['since']}"
                for one in beat["active"]
                if one["severity"] == "critical" and one["state"] == "firing"
            }
        except BAD:
            return
        before = self.hear(told, patience)
        for incident, words in firing.items():
            known = self.incidents.get(incident, NOTHING)
            if known["state"] == "firing":
                known.update(told)
            # The event itself may be on its way: what only one heartbeat says can wait for the next.
            elif incident in before["listed"] and self.is_later(told, known):
                self.learn(incident, {**known, "state": "firing", "words": words, **told})
        # Only when nothing is critical, what is not listed is over.
        for incident, known in list(self.incidents.items()) if calm and before["calm"] else []:
            if known["state"] == "firing" and self.may_end(told, known):
                self.learn(incident, {**known, "state": "resolved", "words": f"{known['words']}: over", **told})
        before["listed"], before["calm"] = set(firing), calm

    def hear(self, told: dict, patience: float) -> dict:
        """What was known of the watcher that speaks. It may have learned meanwhile which system it watches."""
        now, system = told["heard"], told["system"]
        gone = {""} if self.speakers.pop("", None) else set()
        new = {"listed": set(), "calm": False, "began": now}
        speaker = self.speakers.setdefault(told["instance"], {"system": system, "patience": patience, "last": now, **new})
        again = self.quiet & ({system, speaker["system"]} | gone)
        if again:
            print(f"all well metawatch is heard again {system}".rstrip(), flush=True)
        self.quiet -= again
        if now - speaker["last"] > speaker["patience"]:
            speaker.update(new)
        speaker.update(system=system, patience=patience, last=now)
        if len(self.speakers) > 1_000:
            del self.speakers[min(self.speakers, key=lambda one: self.speakers[one]["last"])]
        return speaker

    @staticmethod
    def is_later(told: dict, known: dict) -> bool:
        return told["instance"] != known["instance"] or told["order"] > known["order"]

    def may_end(self, told: dict, known: dict) -> bool:
        if told["instance"] == known["instance"]:
            return told["order"] > known["order"]
        other = self.speakers.get(known["instance"], {"last": 0.0, "patience": 10.0})
        silent = told["heard"] - max(known["heard"], other["last"]) > other["patience"]
        return silent and told["system"] == known["system"]

    def look_for_quiet(self) -> None:
        now = time.monotonic()
        for system in {speaker["system"] for speaker in self.speakers.values()} - self.quiet:
            own = [speaker for speaker in self.speakers.values() if speaker["system"] == system]
            if any(now - speaker["last"] <= speaker["patience"] for speaker in own):
                continue
            last = max(speaker["last"] for speaker in own)
            heirs = {speaker["system"] for speaker in self.speakers.values() if speaker["began"] > last}
            if len(heirs) == 1 and "" in heirs | {system}:
                # Watchers that tell no system fell silent when those of one began: another version was installed.
                for one in own + [known for known in self.incidents.values() if known["system"] == system]:
                    one["system"] = next(iter(heirs))
                continue
            self.quiet.add(system)
            print(f"PAGE     metawatch is quiet: nobody watches {system}".rstrip(), flush=True)


class Connection:
    """What goes wrong with it is said once, until it is there again."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    async def on_error(self, error: Exception) -> None:
        kind = type(error).__name__
        if kind not in self.said:
            print(f"no connection yet, trying again: {str(error) or kind}", file=sys.stderr)
        self.said.add(kind)

    async def on_loss(self) -> None:
        print("connection lost", file=sys.stderr)

    async def on_return(self) -> None:
        self.said.clear()
        print("connected again", file=sys.stderr)


async def main(servers: list[str]) -> None:
    consumer, connection = Consumer(), Connection()
    # Also for the servers that the first one tells of.
    first = urlsplit(servers[0])
    user, password = unquote(first.username or ""), unquote(first.password or "")
    login = {"user": user, "password": password} if password else {"token": user} if user else {}
    client = await nats.connect(
        servers,
        max_reconnect_attempts=-1,
        error_cb=connection.on_error,
        disconnected_cb=connection.on_loss,
        reconnected_cb=connection.on_return,
        **login,
    )
    connection.said.clear()
    await client.subscribe("metawatch.alert.>", cb=consumer.on_alert)
    await client.subscribe("metawatch.heartbeat", cb=consumer.on_heartbeat)
    await client.flush()
    print("listening", flush=True)
    while True:
        await asyncio.sleep(1)
        consumer.look_for_quiet()


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:4222"
    asyncio.run(main([one if "://" in one else f"nats://{one}" for one in given.split(",") if one]))
