//! Where alerts are posted to.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values;
use crate::forward::ForwardRules;
use crate::shell::config::Secret;
use crate::shell::forward::ForwardOptions;
use crate::shell::state_file::StateLocation;

/// The flags of `metawatch forward`.
#[derive(Clone, Debug, Args)]
pub struct ForwardFlags {
    /// Post to this Alertmanager; may be given several times: all of a cluster of them
    #[arg(long = "alertmanager", env = "METAWATCH_ALERTMANAGER", hide_env_values = true, value_name = "URL")]
    #[arg(value_delimiter = ',')]
    pub alertmanagers: Vec<Secret>,
    /// Post to this webhook, or to where its address is kept, as in env://NAME; may be given several times
    #[arg(long = "webhook", env = "METAWATCH_WEBHOOK", hide_env_values = true, value_name = "URL")]
    #[arg(value_delimiter = ',')]
    pub webhooks: Vec<Secret>,
    /// Send this header to webhooks: 'Authorization: Bearer env://NAME'; file://PATH is read for each post
    #[arg(
        long = "webhook-header",
        env = "METAWATCH_WEBHOOK_HEADER",
        hide_env_values = true,
        value_name = "HEADER"
    )]
    pub webhook_headers: Vec<Secret>,
    /// Send this header to Alertmanagers, in the same form
    #[arg(long = "alertmanager-header", env = "METAWATCH_ALERTMANAGER_HEADER", hide_env_values = true)]
    #[arg(value_name = "HEADER")]
    pub alertmanager_headers: Vec<Secret>,
    /// Certificates of the authorities to trust of receivers instead of the system's, PEM
    #[arg(long, env = "METAWATCH_RECEIVER_TLSCA", hide_env_values = true, value_name = "FILE")]
    pub receiver_tlsca: Option<PathBuf>,
    /// Forward only what fires and its end, and no suspicion
    #[arg(long, env = "METAWATCH_ONLY_FIRING", hide_env_values = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub only_firing: bool,
    /// How long alerts stay open at Alertmanagers when nobody watches any more
    #[arg(long, env = "METAWATCH_KEEP", hide_env_values = true, value_name = "DURATION")]
    #[arg(default_value = "1h", value_parser = values::positive)]
    pub keep: Duration,
    /// Keep what has not arrived, and what is open, in this file; none: lose it with the process [default: under
    /// $STATE_DIRECTORY, else $XDG_STATE_HOME, else ~/.local/state]
    #[arg(long, env = "METAWATCH_FORWARD_STATE", hide_env_values = true, value_name = "FILE|none")]
    pub state: Option<PathBuf>,
    /// First part of the subjects of alerts and heartbeats
    #[arg(long, env = "METAWATCH_PREFIX", hide_env_values = true)]
    #[arg(value_name = "SUBJECT", default_value = crate::event::PREFIX, value_parser = values::prefix)]
    pub prefix: String,
}

impl ForwardFlags {
    /// What they ask for.
    pub fn into_options(self) -> ForwardOptions {
        let given = |list: Vec<Secret>| list.into_iter().filter(|one| !one.expose().is_empty()).collect();
        ForwardOptions {
            prefix: self.prefix,
            rules: ForwardRules { only_firing: self.only_firing, keep: self.keep },
            alertmanagers: given(self.alertmanagers),
            webhooks: given(self.webhooks),
            alertmanager_headers: given(self.alertmanager_headers),
            webhook_headers: given(self.webhook_headers),
            tls_ca: self.receiver_tlsca,
            state: self.state.as_deref().map(StateLocation::named),
        }
    }
}
