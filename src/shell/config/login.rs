//! The login of a call as flags of the `nats` CLI, for commands that somebody is advised to type. No secret is in it.

use std::path::Path;

use async_nats::ServerAddr;

use super::{Auth, ConnectConfig, DEFAULT_SERVER, SecretSource};
use crate::advice::shell_quoted;

impl ConnectConfig {
    /// The flags with which the `nats` CLI reaches the same servers as the same user: a context, else the servers, the
    /// user's name and the paths of files. A password or a token is left out; the CLI takes it from its variables.
    pub fn login(&self) -> String {
        if let Some(context) = &self.context {
            return format!("--context {}", shell_quoted(context));
        }
        let servers: Vec<&str> = self.servers.iter().map(ServerAddr::as_url_str).collect();
        let servers = servers.join(",");
        let mut flags = Vec::new();
        if servers != DEFAULT_SERVER {
            flags.push(flag("server", &servers));
        }
        match &self.auth {
            Auth::Password { user: SecretSource::Text(user), .. } => flags.push(flag("user", user.expose())),
            Auth::Creds(SecretSource::File(path)) => flags.push(file("creds", path)),
            Auth::Nkey(SecretSource::File(path)) => flags.push(file("nkey", path)),
            Auth::Nothing
            | Auth::Password { .. }
            | Auth::Token(_)
            | Auth::Jwt { .. }
            | Auth::Creds(_)
            | Auth::Nkey(_) => {}
        }
        flags.extend(self.tls.ca.as_deref().map(|path| file("tlsca", path)));
        if let Some((cert, key)) = &self.tls.client {
            flags.extend([file("tlscert", cert), file("tlskey", key)]);
        }
        if self.tls.first {
            flags.push("--tlsfirst".to_owned());
        }
        flags.join(" ")
    }
}

fn flag(name: &str, value: &str) -> String {
    format!("--{name} {}", shell_quoted(value))
}

fn file(name: &str, path: &Path) -> String {
    flag(name, &path.to_string_lossy())
}
