// Acts on metawatch's alerts: npm install @nats-io/transport-node; node alerts.mjs 127.0.0.1:4222 user password
//
// Each event is acted on once, whatever is delivered twice; and when the watcher itself goes quiet, that is an alarm too.

import { connect } from "@nats-io/transport-node";

const QUIET_AFTER = 30_000; // milliseconds without a heartbeat
const [servers = "127.0.0.1:4222", user, pass] = process.argv.slice(2);

const client = await connect({ servers, user, pass, maxReconnectAttempts: -1 });
const incidents = new Map(); // incident -> the last seq that was acted on
let lastBeat = Date.now();

client.subscribe("metawatch.heartbeat", { callback: () => { lastBeat = Date.now(); } });
setInterval(() => {
  if (Date.now() - lastBeat > QUIET_AFTER) {
    console.log("PAGE     metawatch is quiet: nobody watches");
    lastBeat = Date.now();
  }
}, 1_000);

const alerts = client.subscribe("metawatch.alert.META_001.>");
await client.flush();
console.log("listening");
for await (const message of alerts) {
  const event = message.json();
  if (event.seq <= (incidents.get(event.incident) ?? 0)) continue; // delivered again
  incidents.set(event.incident, event.seq);
  if (event.state === "firing" && ["reported", "observed"].includes(event.reason)) {
    console.log(`PAGE     ${event.summary}`);
  } else if (event.state === "resolved") {
    console.log(`all well ${event.summary}`);
  }
}
