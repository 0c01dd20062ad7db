// Acts on metawatch's alerts: npm install @nats-io/transport-node; node alerts.mjs 127.0.0.1:4222 user password
//
// Each incident is paged once and closed once, whatever is delivered twice. What did not arrive, because this program
// started late or looked for another server just then, is learned from the heartbeats; and when those are missing, that is
// an alarm, too: nobody watches, or we are cut off.

import { connect } from "@nats-io/transport-node";

const [servers = "127.0.0.1:4222", user, pass] = process.argv.slice(2);
const incidents = new Map(); // incident -> the last seq, the state, when that was told, and its words
let listed = new Set(); // what the last heartbeat listed as firing
let calm = false; // whether it said that all is well
let patience = 30_000; // milliseconds without a heartbeat; heartbeats say how many to expect
let lastBeat = performance.now();
let quiet = false;

/** The JSON of a message; nothing when it carries something else. */
function read(message) {
  try {
    return message.json() ?? {};
  } catch {
    console.error(`${message.subject} carries no JSON`);
    return {};
  }
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

function onAlert({ incident, seq, state, timestamp: at, summary: words }) {
  // Else it is delivered again (an event's id is its incident and its seq), or no event at all.
  if (seq > (incidents.get(incident)?.seq ?? 0)) learn(incident, { seq, state, at, words });
}

function onHeartbeat({ interval_ms: interval, timestamp: at, status, active }) {
  if (!(interval > 0) || !Array.isArray(active)) return;
  const firing = active.filter(({ check, state }) => check === "META_001" && state === "firing");
  // The event itself may be on its way: what only one heartbeat says can wait for the next.
  for (const { incident, check, name, state, since } of firing.filter((one) => listed.has(one.incident))) {
    const known = incidents.get(incident) ?? { seq: 0, at: "" };
    if (known.state !== "firing" && at > known.at) {
      learn(incident, { seq: known.seq, state, at, words: `${check} ${name}, since ${since}` });
    }
  }
  // Only when every peer is well, what is not listed is over.
  for (const [incident, known] of status === "ok" && calm ? [...incidents] : []) {
    if (known.state === "firing" && at > known.at) {
      learn(incident, { seq: known.seq, state: "resolved", at, words: `${known.words}: over` });
    }
  }
  listed = new Set(firing.map((one) => one.incident));
  calm = status === "ok";
  patience = Math.max(10_000, 4 * interval);
  lastBeat = performance.now();
  if (quiet) console.log("all well metawatch is heard again");
  quiet = false;
}

const client = await connect({ servers, user, pass, maxReconnectAttempts: -1 });
client.subscribe("metawatch.alert.META_001.>", { callback: (_, message) => onAlert(read(message)) });
client.subscribe("metawatch.heartbeat", { callback: (_, message) => onHeartbeat(read(message)) });
await client.flush();
console.log("listening");
setInterval(() => {
  if (quiet || performance.now() - lastBeat <= patience) return;
  quiet = true;
  console.log("PAGE     metawatch is quiet: nobody watches");
}, 1_000);
const error = await client.closed();
console.log(`PAGE     the alerts of metawatch cannot be heard any more: ${error?.message ?? "closed"}`);
process.exit(1);
