//! The last two tokens of a reply's subject: which epoch it answers, and what was asked.

/// What a message on the inbox answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The `JSZ` request of this epoch.
    Jsz(u64),
    /// A `STATSZ` request of this epoch.
    Statsz(u64),
}

impl Token {
    /// The subject that the replies shall come to.
    pub(super) fn subject(self, inbox: &str) -> String {
        match self {
            Self::Jsz(epoch) => format!("{inbox}.{epoch}.jsz"),
            Self::Statsz(epoch) => format!("{inbox}.{epoch}.statsz"),
        }
    }
}

/// Reads a subject back; `None` for one that we never gave out.
pub(super) fn token(subject: &str, inbox: &str) -> Option<Token> {
    let (epoch, kind) = subject.strip_prefix(inbox)?.strip_prefix('.')?.split_once('.')?;
    let number = epoch.parse().ok()?;
    match kind {
        "jsz" => Some(Token::Jsz(number)),
        "statsz" => Some(Token::Statsz(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_subject_is_read_back() {
        for given in [Token::Jsz(0), Token::Statsz(u64::MAX)] {
            assert_eq!(token(&given.subject("_INBOX.a"), "_INBOX.a"), Some(given));
        }
        for odd in
            ["_INBOX.a.1", "_INBOX.a.x.jsz", "_INBOX.a.1.jsz.more", "_INBOX.ab.1.jsz", "_INBOX.a.-1.jsz"]
        {
            assert_eq!(token(odd, "_INBOX.a"), None, "{odd}");
        }
    }
}
