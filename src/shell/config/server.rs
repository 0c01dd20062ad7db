//! The list of servers, with the login taken out of the addresses.

use async_nats::ServerAddr;

use super::secret::{Secret, broken, percent_decode};
use crate::shell::failure::Failure;

/// The login that an address carried: `user:password@` or `token@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: Secret,
    pub(super) password: Option<Secret>,
}

/// A parsed list of servers. No address in it holds a secret any more, so it may be shown.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) addresses: Vec<ServerAddr>,
    pub(super) login: Option<Login>,
}

/// Parses a comma separated list. `name` is what the list is called in errors.
pub(super) fn parse(name: &str, list: &str) -> Result<Servers, Failure> {
    let mut servers = Servers { addresses: Vec::new(), login: None };
    for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let (address, login) = parse_one(name, text)?;
        match (&servers.login, login) {
            // One connection has one login; picking one of two in silence would be a guess.
            (Some(first), Some(other)) if *first != other => {
                return Err(broken(
                    name,
                    "gives different logins for different servers",
                    "give one login for all of them, with --user and --password, or --creds",
                ));
            }
            (None, login) => servers.login = login,
            (Some(_), _) => {}
        }
        if !servers.addresses.contains(&address) {
            servers.addresses.push(address);
        }
    }
    if servers.addresses.is_empty() {
        return Err(broken(name, "names no server", HINT));
    }
    Ok(servers)
}

const HINT: &str = "write nats://HOST:4222 or tls://HOST:4222, several of them with commas";

fn parse_one(name: &str, text: &str) -> Result<(ServerAddr, Option<Login>), Failure> {
    // What stands before the last `@` may be a password, even where the rest cannot be parsed.
    let shown = text.rsplit_once('@').map_or(text, |(_, address)| address);
    let bad = |what: &str| broken(name, &format!("names the server {shown:?}, {what}"), HINT);
    let parsed: ServerAddr = text.parse().map_err(|_| bad("which is not a valid address"))?;
    if parsed.is_websocket() {
        return Err(bad("but WebSocket is not supported"));
    }
    if parsed.host().is_empty() {
        return Err(bad("which has no host"));
    }
    let decode = |part: &str| {
        let bytes = percent_decode(part).ok_or_else(|| bad("whose login has a stray %"))?;
        String::from_utf8(bytes).map(Secret::from).map_err(|_| bad("whose login is not UTF-8"))
    };
    let login = match parsed.username() {
        Some(user) => {
            Some(Login { user: decode(user)?, password: parsed.password().map(decode).transpose()? })
        }
        None => None,
    };
    // Built from its parts: the path, the query and the login stay behind.
    let host =
        if parsed.host().contains(':') { format!("[{}]", parsed.host()) } else { parsed.host().to_owned() };
    let clean = format!("{}://{host}:{}", parsed.scheme(), parsed.port());
    Ok((clean.parse().map_err(|_| bad("which is not a valid address"))?, login))
}
