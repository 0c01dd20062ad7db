// Acts on metawatch's alerts: npm install @nats-io/transport-node; node alerts.mjs 127.0.0.1:4222 user password
//
// Each incident is paged once and closed once, whatever is delivered twice; whoever starts late learns of it from a
// reminder. Missing heartbeats are an alarm, too: nobody watches, or we are cut off.

import { connect } from "@nats-io/transport-node";

const [servers = "127.0.0.1:4222", user, pass] = process.argv.slice(2);
const incidents = new Map(); // incident -> the last seq, and its state
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

function onAlert({ incident, seq, state, reason, summary }) {
  const last = incidents.get(incident) ?? { seq: 0 };
  // Delivered again (an event's id is its incident and its seq), or no event at all.
  if (!(seq > last.seq)) return;
  incidents.delete(incident);
  incidents.set(incident, { seq, state });
  if (incidents.size > 1_000) incidents.delete(incidents.keys().next().value);
  if (state === "firing" && last.state !== "firing") {
    console.log(`PAGE     ${summary}`);
  } else if (state === "resolved" && reason !== "withdrawn") {
    console.log(`all well ${summary}`);
  }
}

function onHeartbeat({ interval_ms: interval }) {
  if (!(interval > 0)) return;
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
