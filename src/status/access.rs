//! Who may look at the page: where it listens, and which host names it goes by.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Reads what `--listen` was given: a port alone means this host alone; every other address is written out.
///
/// # Errors
///
/// Tells what to write instead.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = |text: &str| text.parse::<u16>().ok();
    let digits = text.strip_prefix(':').unwrap_or(text);
    if let Some(port) = port(digits) {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    if let Some(port) = text.strip_prefix("localhost:").and_then(port) {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| {
        "write a port, as in 8222, or an IP address with a port, as in 0.0.0.0:8222 or [::1]:8222".to_owned()
    })
}

/// Reads a name of `--listen-host`.
///
/// # Errors
///
/// Tells what to write instead.
pub fn host_name(text: &str) -> Result<String, String> {
    let fits = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if text.is_empty() || text.len() > 253 || !text.chars().all(fits) {
        return Err(
            "write a host name as a browser shows it, without a port: metawatch.example.org".to_owned()
        );
    }
    Ok(text.to_ascii_lowercase())
}

/// Whether a request may be answered that was sent to this host, as its `Host` header tells.
///
/// A page of somebody else cannot make a browser send us another name than its own (DNS rebinding): IP addresses,
/// `localhost` and the names of `--listen-host` are ours.
pub fn is_our_host(host: &str, names: &[String]) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            return address.parse::<std::net::Ipv6Addr>().is_ok() && is_port(port);
        }
        None => match host.split_once(':') {
            Some((name, port)) if is_digits(port) => name,
            Some(_) => return false,
            None => host,
        },
    };
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    bare.parse::<IpAddr>().is_ok()
        || bare.eq_ignore_ascii_case("localhost")
        || names.iter().any(|name| bare.eq_ignore_ascii_case(name))
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(is_digits)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_this_host_alone() {
        let read = |text| listen_address(text).map(|address| address.to_string());
        for (text, address) in [
            ("8222", "127.0.0.1:8222"),
            (":8222", "127.0.0.1:8222"),
            ("0", "127.0.0.1:0"),
            ("localhost:80", "127.0.0.1:80"),
            ("0.0.0.0:8222", "0.0.0.0:8222"),
            ("[::1]:8222", "[::1]:8222"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(address));
        }
        for text in ["", ":", "65536", "host:8222", "127.0.0.1", "::1", "*:8222", "http://127.0.0.1:8222"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_names_that_nobody_else_can_own_are_ours() {
        let names = ["page.example.org".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST:8222",
            "localhost.:8222",
            "127.0.0.1:8222",
            "10.1.2.3",
            "[::1]",
            "[::1]:8222",
            "page.example.org",
            "Page.Example.Org:443",
        ] {
            assert!(is_our_host(host, &names), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8222",
            "page.example.org.evil.example",
            "user@localhost",
            "localhost:8222:1",
            "localhost:port",
            "[::1",
            "[evil.example]:80",
            "[::1]evil",
            "127.0.0.1/",
            "localhost\u{0}",
        ] {
            assert!(!is_our_host(host, &names), "{host:?}");
        }
    }
}
