//! What a server says of our own user when it is asked `$SYS.REQ.USER.INFO`.

use serde::Deserialize;

use super::Operation;

/// The request. Every user of every account gets an answer to it, who may ask. Source: nats-server 2.10 to 2.15,
/// `server/events.go` (`userInfoReq`).
pub const USER_INFO: &str = "$SYS.REQ.USER.INFO";
/// A longer answer is not read.
const BYTES_MAX: usize = 256 << 10;

/// Who we are, and what we may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The name of our user; of a JWT, its public key.
    pub user: String,
    /// The name of our account.
    pub account: String,
    permissions: Option<Permissions>,
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    server: Server,
    data: Data,
}

#[derive(Default, Deserialize)]
struct Server {
    #[serde(default)]
    id: String,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    user: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    account_name: String,
    permissions: Option<Permissions>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Responses {}

/// Without any, everything is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Permissions {
    publish: Option<Subjects>,
    subscribe: Option<Subjects>,
    responses: Option<Responses>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Subjects {
    allow: Option<Vec<String>>,
    deny: Option<Vec<String>>,
}

impl UserInfo {
    /// Reads the answer of the server at the other end, which has this id; `None` for any other. Up to 2.10 any server
    /// of the cluster may answer, and one that we are not connected to tells the rights of a route: all of them
    /// (measured, 2.10.25).
    pub fn decode(payload: &[u8], server_id: &str) -> Option<Self> {
        let fits = payload.len() <= BYTES_MAX;
        let Reply { server, data } = fits.then(|| serde_json::from_slice::<Reply>(payload).ok()).flatten()?;
        let Data { user, account, account_name, permissions } = data;
        let account = if account_name.is_empty() { account } else { account_name };
        (server.id == server_id).then_some(Self { user, account, permissions })
    }

    /// Whether the user may do that on this subject, which has no wildcard.
    pub fn may(&self, operation: Operation, subject: &str) -> bool {
        let Some(permissions) = &self.permissions else { return true };
        let subjects = match operation {
            Operation::Publish => &permissions.publish,
            Operation::Subscribe => &permissions.subscribe,
        };
        let Some(Subjects { allow, deny }) = subjects else { return true };
        let names = |list: &Option<Vec<String>>| list.iter().flatten().any(|one| covers(one, subject));
        let allowed = allow.as_ref().is_none_or(Vec::is_empty) || names(allow);
        allowed && !names(deny)
    }

    /// Whether the user may answer requests wherever they want their answer.
    pub fn may_respond(&self) -> bool {
        self.permissions.as_ref().is_none_or(|permissions| {
            permissions.responses.is_some()
                || permissions.publish.as_ref().is_none_or(|of| of.allow.is_none())
        })
    }
}

/// Whether a subject of a configuration covers this one, which has no wildcard. A queue name behind it is left out.
fn covers(pattern: &str, subject: &str) -> bool {
    let pattern = pattern.split_whitespace().next().unwrap_or_default();
    let (mut wanted, mut tokens) = (pattern.split('.'), subject.split('.'));
    loop {
        match (wanted.next(), tokens.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(one), Some(token)) if one == "*" || one == token => {}
            (Some(_) | None, _) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_of_a_configuration_covers_what_a_server_would_let_through() {
        for (pattern, subject, expected) in [
            ("metawatch.>", "metawatch.alert.a.b", true),
            ("metawatch.>", "metawatch", false),
            (">", "a", true),
            ("metawatch.*", "metawatch.heartbeat", true),
            ("metawatch.*", "metawatch.watcher.a", false),
            ("$SYS.REQ.SERVER.*.STATSZ", "$SYS.REQ.SERVER.NABC.STATSZ", true),
            ("$SYS.REQ.SERVER.PING.JSZ", "$SYS.REQ.SERVER.PING.STATSZ", false),
            ("a queue", "a", true),
            ("", "a", false),
        ] {
            assert_eq!(covers(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn what_a_user_may_is_read_from_the_answer_and_nothing_else_is() {
        let info = |permissions: &str| {
            let text = format!(
                r#"{{"server":{{"name":"s1","id":"N1"}},"data":{{"user":"u","account":"A1","account_name":"APP"{permissions}}}}}"#
            );
            UserInfo::decode(text.as_bytes(), "N1").expect("an answer")
        };
        let free = info("");
        assert_eq!((free.user.as_str(), free.account.as_str()), ("u", "APP"));
        assert!(free.may(Operation::Publish, "a") && free.may_respond());
        let least = info(
            r#","permissions":{"publish":{"allow":["a.>"],"deny":["a.b"]},"subscribe":{"deny":["c"]},"responses":{"max":1}}"#,
        );
        for (operation, subject, expected) in [
            (Operation::Publish, "a.c", true),
            (Operation::Publish, "a.b", false),
            (Operation::Publish, "b", false),
            (Operation::Subscribe, "b", true),
            (Operation::Subscribe, "c", false),
        ] {
            assert_eq!(least.may(operation, subject), expected, "{operation:?} {subject}");
        }
        assert!(least.may_respond());
        assert!(!info(r#","permissions":{"publish":{"allow":["a"]}}"#).may_respond());
        for odd in [
            "",
            "null",
            "[]",
            r#"{"data":null}"#,
            r#"{"server":{"id":"N2"},"data":{}}"#,
            r#"{"error":{"code":400}}"#,
        ] {
            assert_eq!(UserInfo::decode(odd.as_bytes(), "N1"), None, "{odd}");
        }
    }
}
