// Acts on metawatch's alerts: npm install @nats-io/transport-node; node alerts.mjs host:4222,host:4222 user password
//
// Each incident is paged once and closed once, whatever is delivered twice. What did not arrive, because this program
// started late or looked for another server just then, is learned from the heartbeats; and when those are missing, that is
// an alarm, too: nobody watches, or we are cut off.
//
// Several systems may be heard, and several watchers of each. A watcher's word ends what it told of itself, and what
// another one of its system left behind when it fell silent. Times of different watchers are never compared.

import { connect } from "@nats-io/transport-node";

const [servers = "127.0.0.1:4222", user, pass] = process.argv.slice(2);
const incidents = new Map(); // incident -> the last seq, the state, its words, and who told that when
// By instance: its system, what its last heartbeat listed as firing, whether that said that all is well, for how many
// milliseconds it may be silent, and since when and until when it was heard. The first entry stands for nobody.
const speakers = new Map();
const start = performance.now();
speakers.set("", { system: "", listed: new Set(), calm: false, patience: 30_000, began: start, last: start });
const quiet = new Set(); // systems

/** The JSON of a message; nothing when it carries something else. */
function read(message) {
  try {
    return message.json() ?? {};
  } catch {
    console.error(`${message.subject} carries no JSON`);
    return {};
  }
}

/** Who tells it, in which of its epochs (their numbers grow whatever its clock does), and when that is heard. */
function source({ system = "", monitor, epoch, timestamp: at }) {
  const number = Number(String(epoch?.id).split("-").pop());
  return { system, instance: String(monitor?.instance), number, at, heard: performance.now() };
}

function isLater(told, known) {
  return told.number > known.number || (told.number === known.number && told.at > known.at);
}

function learn(incident, now) {
  const before = incidents.get(incident)?.state;
  incidents.delete(incident);
  incidents.set(incident, now);
  if (incidents.size > 1_000) incidents.delete(incidents.keys().next().value);
  if (now.state === "firing" && before !== "firing") {
    console.log(`PAGE     ${now.words}`);
  } else if (now.state === "resolved" && before === "firing") {
    console.log(`all well ${now.words}`);
  }
}

function onAlert(event) {
  const { incident, seq, state, severity, summary: words } = event;
  // A warning is nothing to page for; an incident that became critical stays so until it ends.
  if (severity !== "critical" && !incidents.has(incident)) return;
  // Else it is delivered again (an event's id is its incident and its seq), or no event at all.
  if (seq > (incidents.get(incident)?.seq ?? 0) && Number.isSafeInteger(seq)) {
    const told = source(event);
    // It answers for what another watcher told while the two could not hear each other.
    for (const one of event.merged ?? []) if (incidents.has(one)) Object.assign(incidents.get(one), told);
    learn(incident, { seq, state, words, ...told });
  }
}

function onHeartbeat(beat) {
  const { interval_ms: interval, status, active } = beat;
  if (!(interval > 0) || !Array.isArray(active)) return;
  const told = source(beat);
  const calm = status === "ok" || beat.calm === true;
  const speaker = hear(told, Math.min(14_400_000, Math.max(10_000, 4 * interval)));
  const firing = active.filter((one) => one?.severity === "critical" && one.state === "firing");
  for (const { incident, check, name, state, since } of firing) {
    const known = incidents.get(incident) ?? { seq: 0 };
    const later = known.instance !== told.instance || isLater(told, known);
    if (known.state === "firing") {
      Object.assign(known, told);
    } else if (speaker.listed.has(incident) && later) {
      // The event itself may have been on its way: what only one heartbeat says could wait for this one.
      learn(incident, { ...known, state, words: `${check} ${name}, since ${since}`, ...told });
    }
  }
  // Only when nothing is critical, what is not listed is over.
  for (const [incident, known] of calm && speaker.calm ? [...incidents] : []) {
    if (known.state === "firing" && mayEnd(told, known)) {
      learn(incident, { ...known, state: "resolved", words: `${known.words}: over`, ...told });
    }
  }
  speaker.listed = new Set(firing.map((one) => one.incident));
  speaker.calm = calm;
}

/** What was known of the watcher that speaks. It may have learned meanwhile which system it watches. */
function hear({ system, instance, heard: now }, patience) {
  const fresh = { listed: new Set(), calm: false, began: now };
  const nobody = speakers.delete("");
  const speaker = speakers.get(instance) ?? { system, patience, last: now, ...fresh };
  const before = [system, speaker.system, ...(nobody ? [""] : [])];
  const again = before.filter((one) => quiet.delete(one)).length > 0;
  if (again) console.log(`all well metawatch is heard again ${system}`.trimEnd());
  if (now - speaker.last > speaker.patience) Object.assign(speaker, fresh);
  Object.assign(speaker, { system, patience, last: now });
  // The one that was heard longest ago is the first.
  speakers.delete(instance);
  speakers.set(instance, speaker);
  if (speakers.size > 1_000) speakers.delete(speakers.keys().next().value);
  return speaker;
}

function mayEnd(told, known) {
  if (told.instance === known.instance) return isLater(told, known);
  const { last = 0, patience = 10_000 } = speakers.get(known.instance) ?? {};
  return told.system === known.system && told.heard - Math.max(known.heard, last) > patience;
}

function lookForQuiet() {
  const now = performance.now();
  const all = [...speakers.values()];
  for (const system of new Set(all.map((speaker) => speaker.system))) {
    const own = all.filter((speaker) => speaker.system === system);
    if (quiet.has(system) || own.some(({ last, patience }) => now - last <= patience)) continue;
    const last = Math.max(...own.map((speaker) => speaker.last));
    const [heir, ...others] = new Set(all.filter(({ began }) => began > last).map((speaker) => speaker.system));
    if (heir !== undefined && others.length === 0 && (system === "" || heir === "")) {
      // Watchers that tell no system fell silent when those of one began: another version was installed.
      for (const one of [...own, ...incidents.values()]) if (one.system === system) one.system = heir;
      continue;
    }
    quiet.add(system);
    console.log(`PAGE     metawatch is quiet: nobody watches ${system}`.trimEnd());
  }
}

/** Says once that the connection is lost, and once that it is there again. */
async function tellOfConnection() {
  for await (const { type } of client.status()) {
    if (type === "disconnect") console.error("connection lost");
    if (type === "reconnect") console.error("connected again");
  }
}

/** Waits for the first connection, too, and says once why. */
async function connectAtLast() {
  for (let said = false; ; said = true) {
    try {
      return await connect({ servers: servers.split(","), user, pass, maxReconnectAttempts: -1 });
    } catch (error) {
      if (!said) console.error(`waiting for ${servers}: ${error.message}`);
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }
}

const client = await connectAtLast();
tellOfConnection();
client.subscribe("metawatch.alert.>", { callback: (_, message) => onAlert(read(message)) });
client.subscribe("metawatch.heartbeat", { callback: (_, message) => onHeartbeat(read(message)) });
await client.flush();
console.log("listening");
setInterval(lookForQuiet, 1_000);
const error = await client.closed();
console.log(`PAGE     the alerts of metawatch cannot be heard any more: ${error?.message ?? "closed"}`);
process.exit(1);
