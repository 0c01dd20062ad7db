//! The flags of the connection, and the layers that a value can come from.

use std::collections::BTreeMap;
use std::time::Duration;

use super::secret::{ConfigValue, Env, Secret};

/// Given to each flag: a heading for the whole struct would catch the flags of whoever flattens it, too.
#[cfg(feature = "cli")]
const HEADING: &str = "Connection";

/// How to reach the servers, as given on the command line.
///
/// Every flag also has variables; they are looked up in [`super::ConnectConfig::resolve`] and not by the command line
/// parser, which knows one variable a flag, and could not tell it from the flag.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
pub struct ConnectFlags {
    /// Servers to connect to, comma separated; a login in the address is used [default: nats://127.0.0.1:4222]
    /// [env: METAWATCH_SERVER, NATS_URL]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, short, alias = "servers", value_name = "URLS"))]
    #[cfg_attr(feature = "cli", arg(value_parser = some_server))]
    pub server: Option<Secret>,
    /// User name; without a password it is sent as a token [env: METAWATCH_USER, NATS_USER]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "NAME"))]
    pub user: Option<Secret>,
    /// Password, or where it is kept: env://NAME, data:;base64,TEXT, or file://PATH, read anew at every connect
    /// [env: METAWATCH_PASSWORD, NATS_PASSWORD]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "PASSWORD"))]
    pub password: Option<Secret>,
    /// Token, or where it is kept, as with --password [env: METAWATCH_TOKEN, NATS_TOKEN]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "TOKEN"))]
    pub token: Option<Secret>,
    /// Credentials file; read anew at every connect [env: METAWATCH_CREDS, NATS_CREDS]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "FILE"))]
    pub creds: Option<Secret>,
    /// File with the seed of an NKey; read anew at every connect [env: METAWATCH_NKEY, NATS_NKEY]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "FILE"))]
    pub nkey: Option<Secret>,
    /// User JWT, or where it is kept, as with --password; give its seed with --seed [env: METAWATCH_JWT]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "JWT"))]
    pub jwt: Option<Secret>,
    /// Seed that signs for --jwt, or where it is kept, as with --password [env: METAWATCH_SEED]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "SEED"))]
    pub seed: Option<Secret>,
    /// Client certificate, PEM; needs --tlskey [env: METAWATCH_TLSCERT, NATS_CERT]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "FILE"))]
    pub tlscert: Option<String>,
    /// Private key of the client certificate, PEM [env: METAWATCH_TLSKEY, NATS_KEY]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "FILE"))]
    pub tlskey: Option<String>,
    /// Certificates of the authorities to trust instead of the system's, PEM; turns TLS on
    /// [env: METAWATCH_TLSCA, NATS_CA]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, alias = "tlscacert", value_name = "FILE"))]
    pub tlsca: Option<String>,
    /// Start TLS before the server says anything (handshake_first) [env: METAWATCH_TLSFIRST]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long))]
    pub tlsfirst: bool,
    /// Context of the nats CLI to use, by name or by path [env: METAWATCH_CONTEXT, NATS_CONTEXT]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "NAME"))]
    pub context: Option<String>,
    /// Do not use the selected context of the nats CLI [env: METAWATCH_NO_CONTEXT]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, conflicts_with = "context"))]
    pub no_context: bool,
    /// First part of the subjects that replies come to [default: _INBOX] [env: METAWATCH_INBOX_PREFIX]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "PREFIX"))]
    pub inbox_prefix: Option<String>,
    /// Name of the connection, as servers list it [default: metawatch] [env: METAWATCH_CONNECTION_NAME]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "NAME"))]
    pub connection_name: Option<String>,
    /// How long to wait for a connection [default: 5s] [env: METAWATCH_TIMEOUT, NATS_TIMEOUT]
    #[cfg_attr(feature = "cli", arg(help_heading = HEADING, long, value_name = "DURATION", value_parser = humantime::parse_duration))]
    pub timeout: Option<Duration>,
}

/// An empty list of servers is a slip (`--server "$URL"`) and not the wish for the default one.
#[cfg(feature = "cli")]
pub(crate) fn some_server(text: &str) -> Result<Secret, &'static str> {
    if text.trim().is_empty() { Err("it names no server") } else { Ok(text.into()) }
}

impl ConnectFlags {
    /// Whether any is given.
    pub fn is_any(&self) -> bool {
        !Layer::of_flags(self).values.is_empty()
    }
}

/// Everything that can be set, whatever it is called where it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Setting {
    Server,
    User,
    Password,
    Token,
    Creds,
    Nkey,
    UserJwt,
    UserSeed,
    Nsc,
    ClientCert,
    ClientKey,
    TlsCa,
    TlsFirst,
    Context,
    NoContext,
    InboxPrefix,
    ConnectionName,
    Timeout,
}

/// What a key is called as a flag, as a variable of the nats CLI, and as a field of a context.
struct Names {
    key: Setting,
    flag: Option<&'static str>,
    variable: Option<&'static str>,
    field: Option<&'static str>,
}

const fn names(
    key: Setting,
    flag: Option<&'static str>,
    variable: Option<&'static str>,
    field: Option<&'static str>,
) -> Names {
    Names { key, flag, variable, field }
}

const TABLE: [Names; 18] = [
    names(Setting::Server, Some("server"), Some("NATS_URL"), Some("url")),
    names(Setting::User, Some("user"), Some("NATS_USER"), Some("user")),
    names(Setting::Password, Some("password"), Some("NATS_PASSWORD"), Some("password")),
    names(Setting::Token, Some("token"), Some("NATS_TOKEN"), Some("token")),
    names(Setting::Creds, Some("creds"), Some("NATS_CREDS"), Some("creds")),
    names(Setting::Nkey, Some("nkey"), Some("NATS_NKEY"), Some("nkey")),
    names(Setting::UserJwt, Some("jwt"), None, Some("user_jwt")),
    names(Setting::UserSeed, Some("seed"), None, Some("user_seed")),
    names(Setting::Nsc, None, None, Some("nsc")),
    names(Setting::ClientCert, Some("tlscert"), Some("NATS_CERT"), Some("cert")),
    names(Setting::ClientKey, Some("tlskey"), Some("NATS_KEY"), Some("key")),
    names(Setting::TlsCa, Some("tlsca"), Some("NATS_CA"), Some("ca")),
    names(Setting::TlsFirst, Some("tlsfirst"), None, Some("tls_first")),
    names(Setting::Context, Some("context"), Some("NATS_CONTEXT"), None),
    names(Setting::NoContext, Some("no-context"), None, None),
    names(Setting::InboxPrefix, Some("inbox-prefix"), None, Some("inbox_prefix")),
    names(Setting::ConnectionName, Some("connection-name"), None, None),
    names(Setting::Timeout, Some("timeout"), Some("NATS_TIMEOUT"), None),
];

/// The flags that a connection for alerts has too, under `--alert-…`.
pub(super) fn with_twin() -> impl Iterator<Item = &'static str> {
    let shared = |key| matches!(key, Setting::NoContext | Setting::ConnectionName | Setting::Timeout);
    TABLE.iter().filter(move |names| !shared(names.key)).filter_map(|names| names.flag)
}

/// Where a layer of values comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Flags,
    /// `METAWATCH_…`
    OwnVariables,
    /// `NATS_…`
    NatsVariables,
    /// The context of that name.
    Context(String),
}

impl Origin {
    /// What `key` is called there, for errors; `None` when it cannot be set there.
    pub(super) fn name_of(&self, key: Setting) -> Option<String> {
        let names = TABLE.iter().find(|names| names.key == key)?;
        match self {
            Self::Flags => names.flag.map(|flag| format!("--{flag}")),
            Self::OwnVariables => {
                names.flag.map(|flag| format!("METAWATCH_{}", flag.to_uppercase().replace('-', "_")))
            }
            Self::NatsVariables => names.variable.map(str::to_owned),
            Self::Context(context) => {
                names.field.map(|field| format!("{field:?} of the context {context:?}"))
            }
        }
    }

    /// The fields of a context file that are read, with what they set.
    pub(super) fn fields() -> impl Iterator<Item = (Setting, &'static str)> {
        TABLE.iter().filter_map(|names| Some((names.key, names.field?)))
    }
}

/// The values of one origin. An empty value counts as not given.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) origin: Origin,
    values: BTreeMap<Setting, Secret>,
}

impl Layer {
    pub(super) fn new(origin: Origin) -> Self {
        Self { origin, values: BTreeMap::new() }
    }

    pub(super) fn set(&mut self, key: Setting, value: impl Into<Secret>) {
        let value = value.into();
        if !value.expose().is_empty() {
            self.values.insert(key, value);
        }
    }

    pub(super) fn has(&self, key: Setting) -> bool {
        self.values.contains_key(&key)
    }

    /// The value of `key` and what it is called, passed to `use_it`.
    pub(super) fn with<T>(&self, key: Setting, use_it: impl FnOnce(ConfigValue<'_>) -> T) -> Option<T> {
        let value = self.values.get(&key)?.expose();
        let name = self.name_of(key);
        let dollars = matches!(self.origin, Origin::Context(_));
        Some(use_it(ConfigValue { name: &name, value, dollars }))
    }

    pub(super) fn name_of(&self, key: Setting) -> String {
        self.origin.name_of(key).unwrap_or_else(|| format!("{key:?}"))
    }

    pub(super) fn is_context(&self) -> bool {
        matches!(self.origin, Origin::Context(_))
    }

    /// The layer of the command line.
    pub(super) fn of_flags(flags: &ConnectFlags) -> Self {
        let mut layer = Self::new(Origin::Flags);
        let secrets = [
            (Setting::Server, &flags.server),
            (Setting::User, &flags.user),
            (Setting::Password, &flags.password),
            (Setting::Token, &flags.token),
            (Setting::Creds, &flags.creds),
            (Setting::Nkey, &flags.nkey),
            (Setting::UserJwt, &flags.jwt),
            (Setting::UserSeed, &flags.seed),
        ];
        for (key, value) in secrets {
            layer.set(key, value.clone().unwrap_or_default());
        }
        let texts = [
            (Setting::ClientCert, &flags.tlscert),
            (Setting::ClientKey, &flags.tlskey),
            (Setting::TlsCa, &flags.tlsca),
            (Setting::Context, &flags.context),
            (Setting::InboxPrefix, &flags.inbox_prefix),
            (Setting::ConnectionName, &flags.connection_name),
        ];
        for (key, value) in texts {
            layer.set(key, value.clone().unwrap_or_default());
        }
        for (key, set) in [(Setting::TlsFirst, flags.tlsfirst), (Setting::NoContext, flags.no_context)] {
            layer.set(key, if set { "true" } else { "" });
        }
        if let Some(timeout) = flags.timeout {
            layer.set(Setting::Timeout, humantime::format_duration(timeout).to_string());
        }
        layer
    }

    /// The layer of the variables that `origin` names.
    pub(super) fn of_variables(origin: Origin, around: &Env) -> Self {
        let mut layer = Self::new(origin);
        for names in &TABLE {
            let value = layer.origin.name_of(names.key).and_then(|name| around.variable(&name));
            layer.set(names.key, value.unwrap_or_default());
        }
        layer
    }
}
