//! How to reach the servers: flags, variables and contexts of the nats CLI, resolved into one plain value.
//!
//! A value comes from the first layer that gives it: flag, `METAWATCH_…` variable, `NATS_…` variable, context. The
//! login is one value here: a layer that gives one hides the logins of all layers below.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;

mod connection_role;
mod context;
mod flags;
mod login;
mod secret;
mod server;
#[cfg(test)]
mod tests;

pub use connection_role::ConnectionRole;
pub use flags::ConnectFlags;
#[cfg(feature = "cli")]
pub(crate) use flags::some_server;
pub use secret::{Env, Secret, SecretSource};
pub(crate) use secret::{pointed_to, reason, unreadable};

use crate::shell::failure::{Failure, FailureKind};
use context::Choice;
use flags::{Layer, Origin, Setting};
use secret::{ConfigValue, NSC_HINT, broken};
use server::{Login, Servers};

const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_PING_INTERVAL: Duration = Duration::from_secs(2);
/// The shortest and the longest interval that a watcher's pings follow.
const PINGED_EVERY_MIN: Duration = Duration::from_secs(1);
const PINGED_EVERY_MAX: Duration = Duration::from_secs(2);

/// Everything that is needed to connect. Its `Debug` output holds no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectConfig {
    /// The servers, in the order in which they are tried; at least one, and none with a login in it.
    pub servers: Vec<ServerAddr>,
    /// Who we are.
    pub auth: Auth,
    /// How to encrypt.
    pub tls: Tls,
    /// First part of the subjects that replies come to.
    pub inbox_prefix: String,
    /// Name of the connection, as servers list it.
    pub name: String,
    /// How long to wait for a connection.
    pub timeout: Duration,
    /// How long nothing may come before the server is asked whether it is alive. When nothing has come for
    /// three times as long, the connection is given up.
    pub ping_interval: Duration,
    /// What the connection is for.
    pub role: ConnectionRole,
    /// The nats CLI context that was used, if any.
    pub context: Option<String>,
}

/// The login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// None: the server has no logins, or a `no_auth_user`, or goes by the client certificate.
    #[default]
    Nothing,
    /// A token.
    Token(SecretSource),
    /// A user with a password.
    Password {
        /// The name of the user.
        user: SecretSource,
        /// The password.
        password: SecretSource,
    },
    /// The seed of an NKey.
    Nkey(SecretSource),
    /// The text of a credentials file: a user JWT and its seed.
    Creds(SecretSource),
    /// A user JWT and its seed, given apart. A bearer JWT needs no seed.
    Jwt {
        /// The JWT.
        jwt: SecretSource,
        /// The seed that signs for it.
        seed: Option<SecretSource>,
    },
}

/// How to encrypt the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate and its private key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Encrypt before the server says anything.
    pub first: bool,
}

impl Tls {
    /// Whether a connection without TLS must be refused. Whoever gives certificates means to be encrypted.
    pub fn required(&self) -> bool {
        self.first || self.ca.is_some() || self.client.is_some()
    }
}

impl ConnectConfig {
    /// Resolves flags, variables and the context. It reads the context file and `file://` secrets, nothing else.
    pub fn resolve(flags: &ConnectFlags, around: &Env) -> Result<Self, Failure> {
        let own = Layer::of_variables(Origin::OwnVariables, around);
        let nats = Layer::of_variables(Origin::NatsVariables, around);
        Self::of_layers(vec![Layer::of_flags(flags), own, nats], around)
    }

    /// The same, to be asked through every `interval`: it is given up when nothing has come for 2.5 of them
    /// (2.5 to 5 s).
    ///
    /// Besides the answers, the watcher's own words come back twice in an interval: a server that stops for
    /// less than two intervals, because it is busy, is not given up.
    #[must_use]
    pub fn watching_every(&self, interval: Duration) -> Self {
        let interval = interval.clamp(PINGED_EVERY_MIN, PINGED_EVERY_MAX);
        Self { ping_interval: interval * 5 / 6, ..self.clone() }
    }

    /// Resolves these layers, and the context that they choose.
    fn of_layers(layers: Vec<Layer>, around: &Env) -> Result<Self, Failure> {
        let mut layers = Layers { layers, around };
        layers.layers.extend(context::load(&layers.choice()?, around)?);
        let (servers, login) = layers.servers()?;
        Ok(Self {
            servers,
            auth: layers.auth(login)?,
            tls: layers.tls()?,
            inbox_prefix: layers.inbox_prefix()?,
            name: layers.text(Setting::ConnectionName).unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned()),
            timeout: layers.timeout()?,
            ping_interval: DEFAULT_PING_INTERVAL,
            role: ConnectionRole::Watching,
            context: layers.layers.iter().find_map(|layer| match &layer.origin {
                Origin::Context(name) => Some(name.clone()),
                Origin::Flags | Origin::OwnVariables | Origin::NatsVariables => None,
            }),
        })
    }

    /// A connection beside this one, for another account. What `flags` leave open is as in this one where that makes
    /// sense (servers and TLS, when neither servers nor a context are given), but never its login, and no variable
    /// of this one counts.
    pub fn beside(&self, flags: &ConnectFlags, around: &Env) -> Result<Self, Failure> {
        let flags = ConnectFlags { no_context: flags.context.is_none(), ..flags.clone() };
        let mut config = Self::of_layers(vec![Layer::of_flags(&flags)], around).map_err(|failure| {
            let failure = ConnectionRole::Alerts.word(failure);
            Failure::new(failure.kind(), format!("the connection for alerts: {failure}"), failure.hint())
        })?;
        if flags.server.is_none() && flags.context.is_none() {
            config.servers.clone_from(&self.servers);
            if config.tls == Tls::default() {
                config.tls.clone_from(&self.tls);
            }
        }
        config.name = format!("{}-alerts", self.name);
        config.timeout = self.timeout;
        config.role = ConnectionRole::Alerts;
        Ok(config)
    }
}

/// The origins of values, the strongest first.
struct Layers<'a> {
    layers: Vec<Layer>,
    around: &'a Env,
}

/// The login in the address of a server, with the index of the layer that gave the address.
type Embedded = Option<(usize, Login)>;

/// What is a login by itself.
#[derive(Clone, Copy)]
enum Method {
    User,
    Creds,
    Nkey,
    UserJwt,
    Token,
    Nsc,
}

/// In the order in which a context that has several is read.
const METHODS: [(Method, Setting); 6] = [
    (Method::User, Setting::User),
    (Method::Creds, Setting::Creds),
    (Method::Nkey, Setting::Nkey),
    (Method::UserJwt, Setting::UserJwt),
    (Method::Token, Setting::Token),
    (Method::Nsc, Setting::Nsc),
];

impl Layers<'_> {
    /// The value of the strongest layer that has one.
    fn first<T>(&self, key: Setting, use_it: impl FnOnce(ConfigValue<'_>) -> T) -> Option<T> {
        self.layers.iter().find(|layer| layer.has(key)).and_then(|layer| layer.with(key, use_it))
    }

    fn text(&self, key: Setting) -> Option<String> {
        self.first(key, |written| written.value.to_owned())
    }

    fn switch(&self, key: Setting) -> Result<bool, Failure> {
        self.first(key, switch).unwrap_or(Ok(false))
    }

    /// The strongest layer that speaks of contexts decides.
    fn choice(&self) -> Result<Choice, Failure> {
        for layer in &self.layers {
            if layer.with(Setting::NoContext, switch).transpose()? == Some(true) {
                return Ok(Choice::Nothing);
            }
            let named = |written: ConfigValue<'_>| Choice::Named {
                value: written.value.to_owned(),
                origin: written.name.to_owned(),
            };
            if let Some(choice) = layer.with(Setting::Context, named) {
                return Ok(choice);
            }
        }
        Ok(Choice::Selected)
    }

    /// The servers, and the login in their addresses with the layer it came from.
    fn servers(&self) -> Result<(Vec<ServerAddr>, Embedded), Failure> {
        let layer = self.layers.iter().position(|layer| layer.has(Setting::Server));
        let parse = |written: ConfigValue<'_>| server::parse(written.name, written.value);
        let default = || server::parse("the default", DEFAULT_SERVER);
        let Servers { addresses, login } = self.first(Setting::Server, parse).unwrap_or_else(default)?;
        Ok((addresses, layer.zip(login)))
    }

    /// The login of the strongest layer that gives one, be it only inside the address of a server.
    fn auth(&self, embedded: Embedded) -> Result<Auth, Failure> {
        for (index, layer) in self.layers.iter().enumerate() {
            let given: Vec<(Method, Setting)> =
                METHODS.into_iter().filter(|(_, key)| layer.has(*key)).collect();
            match (given.as_slice(), &embedded) {
                // The context of the nats CLI may hold several, and has an order; elsewhere it is a mistake.
                ([(_, first), (_, second), ..], _) if !layer.is_context() => {
                    let names = (layer.name_of(*first), layer.name_of(*second));
                    let message = format!("both {} and {} are given", names.0, names.1);
                    return Err(Failure::new(FailureKind::Config, message, "give one way to log in"));
                }
                ([(method, key), ..], _) => return self.method(*method, *key, layer),
                ([], Some((from, login))) if *from == index => {
                    let password = login.password.clone().map(SecretSource::from);
                    return self.user(login.user.clone().into(), password, layer);
                }
                ([], _) => {}
            }
        }
        let alone = [
            (Setting::Password, "is given without a user", "add --user NAME, or use --token"),
            (Setting::UserSeed, "is given without a JWT", "add --jwt JWT, or use --nkey for a seed alone"),
        ];
        for (key, what, hint) in alone {
            if let Some(layer) = self.layers.iter().find(|layer| layer.has(key)) {
                return Err(broken(&layer.name_of(key), what, hint));
            }
        }
        Ok(Auth::Nothing)
    }

    fn method(&self, method: Method, key: Setting, layer: &Layer) -> Result<Auth, Failure> {
        let secret = |written: ConfigValue<'_>| secret::secret(written, self.around);
        let material = |written: ConfigValue<'_>| secret::material(written, self.around);
        let auth = match method {
            Method::Creds => layer.with(key, material).transpose()?.map(Auth::Creds),
            Method::Nkey => layer.with(key, material).transpose()?.map(Auth::Nkey),
            Method::Token => layer.with(key, secret).transpose()?.map(Auth::Token),
            Method::UserJwt => {
                let seed = self.companion(Setting::UserSeed, layer).transpose()?;
                layer.with(key, secret).transpose()?.map(|jwt| Auth::Jwt { jwt, seed })
            }
            Method::User => {
                let user = layer.with(key, secret).transpose()?;
                user.map(|user| self.user(user, None, layer)).transpose()?
            }
            Method::Nsc => {
                return Err(broken(&layer.name_of(key), "is deprecated, and not supported", NSC_HINT));
            }
        };
        // `layer` has the key, or the method would not have been chosen.
        Ok(auth.unwrap_or_default())
    }

    /// Like the nats CLI, and like an address with only a user: a user without a password is a token.
    fn user(
        &self,
        user: SecretSource,
        password: Option<SecretSource>,
        layer: &Layer,
    ) -> Result<Auth, Failure> {
        Ok(match password.map(Ok).or_else(|| self.companion(Setting::Password, layer)).transpose()? {
            Some(password) => Auth::Password { user, password },
            None => Auth::Token(user),
        })
    }

    /// The password for the user of `layer`, or the seed for its JWT. A stronger layer may replace that of a context,
    /// but that of a context never goes with the user or the JWT of another layer.
    fn companion(&self, key: Setting, layer: &Layer) -> Option<Result<SecretSource, Failure>> {
        let mut fitting = self.layers.iter().filter(|other| !other.is_context() || layer.is_context());
        let with_it = fitting.find(|other| other.has(key))?;
        with_it.with(key, |written| secret::secret(written, self.around))
    }

    fn tls(&self) -> Result<Tls, Failure> {
        let path = |written: ConfigValue<'_>| secret::path(written, self.around);
        let is_pair = |layer: &&Layer| layer.has(Setting::ClientCert) || layer.has(Setting::ClientKey);
        // A certificate and a key belong together: half a pair is never completed from the context.
        let from_context = self.layers.iter().find(is_pair).is_some_and(Layer::is_context);
        let half = |key: Setting| {
            let mut fitting = self.layers.iter().filter(|layer| layer.is_context() == from_context);
            let layer = fitting.find(|layer| layer.has(key));
            layer.and_then(|layer| layer.with(key, |written| (written.name.to_owned(), path(written))))
        };
        let client = match (half(Setting::ClientCert), half(Setting::ClientKey)) {
            (Some((_, cert)), Some((_, key))) => Some((cert?, key?)),
            (None, None) => None,
            (Some((name, _)), None) => {
                let hint = "give the private key too, with --tlskey; name the file again when it holds both";
                return Err(broken(&name, "is given without its private key", hint));
            }
            (None, Some((name, _))) => {
                return Err(broken(&name, "is given without its certificate", "give it too, with --tlscert"));
            }
        };
        let ca = self.first(Setting::TlsCa, path).transpose()?;
        Ok(Tls { ca, client, first: self.switch(Setting::TlsFirst)? })
    }

    fn inbox_prefix(&self) -> Result<String, Failure> {
        let check = |written: ConfigValue<'_>| {
            let tokens_fit = written.value.split('.').all(|token| {
                !token.is_empty()
                    && !token.contains(|c: char| c.is_whitespace() || c.is_control() || "*>".contains(c))
            });
            if tokens_fit {
                return Ok(written.value.to_owned());
            }
            let hint =
                "use tokens with dots between them, without wildcards or blanks, like _INBOX.metawatch";
            Err(broken(written.name, "is not a valid subject prefix", hint))
        };
        self.first(Setting::InboxPrefix, check).unwrap_or_else(|| Ok("_INBOX".to_owned()))
    }

    fn timeout(&self) -> Result<Duration, Failure> {
        let parse = |written: ConfigValue<'_>| {
            let parsed = humantime::parse_duration(written.value).ok().filter(|timeout| !timeout.is_zero());
            parsed.ok_or_else(|| broken(written.name, "is not a duration", "write it like 5s, 500ms or 1m"))
        };
        self.first(Setting::Timeout, parse).unwrap_or(Ok(DEFAULT_TIMEOUT))
    }
}

fn switch(written: ConfigValue<'_>) -> Result<bool, Failure> {
    match written.value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(broken(written.name, "is neither true nor false", "set it to true or false, or unset it")),
    }
}
