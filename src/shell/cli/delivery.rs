//! Where alerts go, and when they count as delivered.

use clap::{Args, ValueEnum};

use crate::shell::config::{ConnectFlags, Secret};
use crate::shell::publish::Mode;

const HEADING: &str = "Where alerts go";

/// When an alert counts as delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeWord {
    /// When the server has taken it: whoever is subscribed at that moment gets it.
    Core,
    /// When a JetStream stream has acknowledged it; until then it is tried again.
    Jetstream,
}

/// How and where alerts and heartbeats are published. Without a flag for the connection they go over the one that
/// watches, into its account: the system account.
#[derive(Clone, Debug, Args)]
pub struct DeliveryFlags {
    /// When an alert counts as delivered
    #[arg(long, env = "METAWATCH_PUBLISH_MODE", hide_env_values = true, help_heading = HEADING)]
    #[arg(value_name = "MODE", value_enum, default_value_t = ModeWord::Core)]
    pub publish_mode: ModeWord,
    /// Publish with this context of the nats CLI, by name or by path, instead of into the system account
    #[arg(long, env = "METAWATCH_ALERT_CONTEXT", hide_env_values = true, help_heading = HEADING, value_name = "NAME")]
    pub alert_context: Option<String>,
    /// Publish through these servers [default: those that are watched]
    #[arg(long, env = "METAWATCH_ALERT_SERVER", hide_env_values = true, help_heading = HEADING, value_name = "URLS")]
    pub alert_server: Option<Secret>,
    /// Publish as this user
    #[arg(long, env = "METAWATCH_ALERT_USER", hide_env_values = true, help_heading = HEADING, value_name = "NAME")]
    pub alert_user: Option<Secret>,
    /// Its password, or where it is kept, as with --password
    #[arg(long, env = "METAWATCH_ALERT_PASSWORD", hide_env_values = true, help_heading = HEADING)]
    #[arg(value_name = "PASSWORD")]
    pub alert_password: Option<Secret>,
    /// Publish with this token, or where it is kept
    #[arg(long, env = "METAWATCH_ALERT_TOKEN", hide_env_values = true, help_heading = HEADING, value_name = "TOKEN")]
    pub alert_token: Option<Secret>,
    /// Publish with this credentials file
    #[arg(long, env = "METAWATCH_ALERT_CREDS", hide_env_values = true, help_heading = HEADING, value_name = "FILE")]
    pub alert_creds: Option<Secret>,
    /// Publish with the NKey seed in this file
    #[arg(long, env = "METAWATCH_ALERT_NKEY", hide_env_values = true, help_heading = HEADING, value_name = "FILE")]
    pub alert_nkey: Option<Secret>,
    /// Client certificate for publishing, PEM; needs --alert-tlskey
    #[arg(long, env = "METAWATCH_ALERT_TLSCERT", hide_env_values = true, help_heading = HEADING, value_name = "FILE")]
    pub alert_tlscert: Option<String>,
    /// Private key of that certificate, PEM
    #[arg(long, env = "METAWATCH_ALERT_TLSKEY", hide_env_values = true, help_heading = HEADING, value_name = "FILE")]
    pub alert_tlskey: Option<String>,
    /// Certificates of the authorities to trust when publishing, PEM
    #[arg(long, env = "METAWATCH_ALERT_TLSCA", hide_env_values = true, help_heading = HEADING, value_name = "FILE")]
    pub alert_tlsca: Option<String>,
    /// Start TLS before the server says anything, when publishing
    #[arg(long, env = "METAWATCH_ALERT_TLSFIRST", hide_env_values = true, help_heading = HEADING)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub alert_tlsfirst: bool,
    /// First part of the subjects that acknowledgements come to [default: _INBOX]
    #[arg(long, env = "METAWATCH_ALERT_INBOX_PREFIX", hide_env_values = true, help_heading = HEADING)]
    #[arg(value_name = "PREFIX")]
    pub alert_inbox_prefix: Option<String>,
}

impl DeliveryFlags {
    /// The connection for alerts, when any flag asks for one.
    pub fn connection(&self) -> Option<ConnectFlags> {
        let given = self.alert_context.is_some()
            || self.alert_server.is_some()
            || self.alert_user.is_some()
            || self.alert_token.is_some()
            || self.alert_creds.is_some()
            || self.alert_nkey.is_some()
            || self.alert_password.is_some()
            || self.alert_tlscert.is_some()
            || self.alert_tlskey.is_some()
            || self.alert_tlsca.is_some()
            || self.alert_tlsfirst
            || self.alert_inbox_prefix.is_some();
        given.then(|| ConnectFlags {
            server: self.alert_server.clone(),
            user: self.alert_user.clone(),
            password: self.alert_password.clone(),
            token: self.alert_token.clone(),
            creds: self.alert_creds.clone(),
            nkey: self.alert_nkey.clone(),
            tlscert: self.alert_tlscert.clone(),
            tlskey: self.alert_tlskey.clone(),
            tlsca: self.alert_tlsca.clone(),
            tlsfirst: self.alert_tlsfirst,
            context: self.alert_context.clone(),
            inbox_prefix: self.alert_inbox_prefix.clone(),
            ..ConnectFlags::default()
        })
    }

    /// When an alert counts as delivered.
    pub fn mode(&self) -> Mode {
        match self.publish_mode {
            ModeWord::Core => Mode::Core,
            ModeWord::Jetstream => Mode::JetStream,
        }
    }
}
