//! Where alerts go, and when they count as delivered.

use clap::{Args, ValueEnum};

use crate::shell::config::{ConnectFlags, Secret, some_server};
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
    #[arg(value_parser = some_server)]
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
    /// Publish with this user JWT, or where it is kept
    #[arg(long, env = "METAWATCH_ALERT_JWT", hide_env_values = true, help_heading = HEADING, value_name = "JWT")]
    pub alert_jwt: Option<Secret>,
    /// The seed that signs for it, or where it is kept
    #[arg(long, env = "METAWATCH_ALERT_SEED", hide_env_values = true, help_heading = HEADING, value_name = "SEED")]
    pub alert_seed: Option<Secret>,
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
    /// The connection for alerts, when anything asks for one.
    pub fn connection(&self) -> Option<ConnectFlags> {
        // A variable that is empty is not set.
        let secret = |value: &Option<Secret>| value.clone().filter(|value| !value.expose().is_empty());
        let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let flags = ConnectFlags {
            server: secret(&self.alert_server),
            user: secret(&self.alert_user),
            password: secret(&self.alert_password),
            token: secret(&self.alert_token),
            creds: secret(&self.alert_creds),
            nkey: secret(&self.alert_nkey),
            jwt: secret(&self.alert_jwt),
            seed: secret(&self.alert_seed),
            tlscert: text(&self.alert_tlscert),
            tlskey: text(&self.alert_tlskey),
            tlsca: text(&self.alert_tlsca),
            tlsfirst: self.alert_tlsfirst,
            context: text(&self.alert_context),
            inbox_prefix: text(&self.alert_inbox_prefix),
            ..ConnectFlags::default()
        };
        flags.is_any().then_some(flags)
    }

    /// When an alert counts as delivered.
    pub fn mode(&self) -> Mode {
        match self.publish_mode {
            ModeWord::Core => Mode::Core,
            ModeWord::Jetstream => Mode::JetStream,
        }
    }
}
