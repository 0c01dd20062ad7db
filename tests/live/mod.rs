//! Real clusters.

mod alerts;
mod burst;
mod checks;
mod connect;
mod consumers;
mod delivery;
mod demo;
mod diagnosis;
mod doctor;
mod faults;
mod forward;
mod forward_restart;
mod hardship;
mod harness;
mod image;
mod listen;
mod nsc;
mod own_server;
mod page;
mod prometheus;
mod readme;
mod recipes;
mod rotation;
mod screen;
mod service;
mod sidecars;
mod systemd;
mod systems;
mod tls;
mod told;
mod upgrade;

use crate::cluster::{Cluster, Layout, tested_version};

/// Three servers of the tested version, well.
async fn three() -> Cluster {
    Cluster::start(Layout::cluster(3).version(tested_version().as_deref())).await.unwrap()
}
