//! Proves who we are to a server that asks for a signature.

use async_nats::AuthError;
use nkeys::KeyPair;

use crate::shell::config::{Auth, KeySource, Secret, unreadable};
use crate::shell::failure::{Failure, FailureKind};

/// A login that signs what the server sends.
#[derive(Clone, Debug)]
pub(super) enum Identity {
    Nkey(KeySource),
    Creds(KeySource),
    Jwt { jwt: Secret, seed: Option<Secret> },
}

/// What one connect needs: the JWT, if the login has one, and the key that signs.
struct Keys {
    jwt: Option<String>,
    pair: Option<KeyPair>,
}

impl Identity {
    /// `None` for logins that sign nothing.
    pub(super) fn of(auth: &Auth) -> Option<Self> {
        match auth {
            Auth::Nkey(material) => Some(Self::Nkey(material.clone())),
            Auth::Creds(material) => Some(Self::Creds(material.clone())),
            Auth::Jwt { jwt, seed } => Some(Self::Jwt { jwt: jwt.clone(), seed: seed.clone() }),
            Auth::Nothing | Auth::Token(_) | Auth::Password { .. } => None,
        }
    }

    /// The answer to the nonce of a server.
    pub(super) async fn answer(&self, nonce: &[u8]) -> Result<async_nats::Auth, AuthError> {
        let Keys { jwt, pair } = self.keys().await.map_err(AuthError::new)?;
        let mut auth = async_nats::Auth::new();
        if let Some(pair) = pair {
            auth.signature = Some(pair.sign(nonce).map_err(|_| AuthError::new("the seed cannot sign"))?);
            // A JWT names its key itself.
            auth.nkey = jwt.is_none().then(|| pair.public_key());
        }
        auth.jwt = jwt;
        Ok(auth)
    }

    async fn keys(&self) -> Result<Keys, Failure> {
        match self {
            Self::Nkey(material) => {
                let text = read("the NKey seed", material).await?;
                let seed =
                    seed_line(text.expose()).ok_or_else(|| bad_seed(&place("the NKey seed", material)))?;
                Ok(Keys { jwt: None, pair: Some(pair(seed, &place("the NKey seed", material))?) })
            }
            Self::Creds(material) => {
                let text = read("the credentials", material).await?;
                let place = place("the credentials", material);
                let jwt =
                    block(text.expose(), "NATS USER JWT").ok_or_else(|| no_block(&place, "user JWT"))?;
                let seed =
                    block(text.expose(), "USER NKEY SEED").ok_or_else(|| no_block(&place, "NKey seed"))?;
                Ok(Keys { jwt: Some(jwt.to_owned()), pair: Some(pair(seed, &place)?) })
            }
            Self::Jwt { jwt, seed } => {
                let seed =
                    seed.as_ref().map(|seed| pair(seed.expose().trim(), "the user seed")).transpose()?;
                Ok(Keys { jwt: Some(jwt.expose().trim().to_owned()), pair: seed })
            }
        }
    }
}

/// Whether the login can be used at all: files are there and hold what they should.
pub(super) async fn check(auth: &Auth) -> Result<(), Failure> {
    match Identity::of(auth) {
        Some(identity) => identity.keys().await.map(drop),
        None => Ok(()),
    }
}

async fn read(what: &str, material: &KeySource) -> Result<Secret, Failure> {
    match material {
        KeySource::Text(text) => Ok(text.clone()),
        KeySource::File(path) => tokio::fs::read_to_string(path)
            .await
            .map(Secret::from)
            .map_err(|error| unreadable(what, path, &error)),
    }
}

/// How to speak of where the material is, without showing it.
fn place(what: &str, material: &KeySource) -> String {
    match material {
        KeySource::File(path) => format!("{what} in {}", path.display()),
        KeySource::Text(_) => what.to_owned(),
    }
}

fn pair(seed: &str, place: &str) -> Result<KeyPair, Failure> {
    // The error of the library is left out: it cannot help, and this way nothing of the seed can be in it.
    KeyPair::from_seed(seed).map_err(|_| bad_seed(place))
}

fn bad_seed(place: &str) -> Failure {
    let hint = "a user seed has 58 characters and begins with SU; nk -gen user makes one";
    Failure::new(FailureKind::Config, format!("{place}: no valid NKey seed"), hint)
}

fn no_block(place: &str, what: &str) -> Failure {
    let hint = "write the file anew with nsc generate creds; a bare seed goes with --nkey";
    Failure::new(FailureKind::Config, format!("{place}: no {what}"), hint)
}

/// The seed in a seed file: decorated, or the first line that begins like one.
fn seed_line(text: &str) -> Option<&str> {
    let bare = || text.lines().map(str::trim).find(|line| line.starts_with('S'));
    block(text, "NKEY SEED").or_else(bare)
}

/// The first line that follows `-----BEGIN … title-----` and is not empty.
fn block<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with("---") && line.contains("BEGIN") && line.contains(title))?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with("---"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> String {
        KeyPair::new_user().seed().expect("a seed")
    }

    async fn checked(auth: Auth) -> Result<(), Failure> {
        check(&auth).await
    }

    #[tokio::test]
    async fn a_seed_may_be_bare_or_decorated_and_credentials_need_both_blocks() {
        let seed = seed();
        let nkey = |text: String| Auth::Nkey(KeySource::Text(Secret::from(text)));
        let creds = |text: String| Auth::Creds(KeySource::Text(Secret::from(text)));
        let both = format!(
            "-----BEGIN NATS USER JWT-----\r\neyJ.a.b\r\n------END NATS USER JWT------\r\n\r\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\r\n"
        );
        for (auth, fits) in [
            (nkey(seed.clone()), true),
            (nkey(format!("# mine\n  {seed}\n")), true),
            (nkey(both.clone()), true),
            (nkey("SUNONSENSE".into()), false),
            (nkey(String::new()), false),
            (creds(both.clone()), true),
            (creds(seed.clone()), false),
            (creds(both.replace(&seed, "")), false),
            (creds(both.replace(&seed, "SUNONSENSE")), false),
            (Auth::Jwt { jwt: "eyJ.a.b".into(), seed: None }, true),
            (Auth::Jwt { jwt: "eyJ.a.b".into(), seed: Some(seed.as_str().into()) }, true),
            (Auth::Jwt { jwt: "eyJ.a.b".into(), seed: Some("SUNONSENSE".into()) }, false),
            (Auth::Nothing, true),
        ] {
            let outcome = checked(auth.clone()).await;
            assert_eq!(outcome.is_ok(), fits, "{auth:?}: {outcome:?}");
            if let Err(failure) = outcome {
                assert_eq!(failure.kind(), FailureKind::Config);
                assert!(!failure.hint().is_empty());
                let shown = format!("{failure} {failure:?}");
                assert!(!shown.contains(&seed) && !shown.contains("NONSENSE"), "{shown}");
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_is_missing_is_named() {
        let failure =
            checked(Auth::Creds(KeySource::File("/nowhere/a.creds".into()))).await.expect_err("no file");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.to_string().contains("/nowhere/a.creds"), "{failure}");
    }

    #[tokio::test]
    async fn an_nkey_answers_with_its_public_key_and_a_jwt_without() {
        let seed = seed();
        let public = KeyPair::from_seed(&seed).expect("a seed").public_key();
        let nkey = Identity::Nkey(KeySource::Text(Secret::from(seed.as_str())));
        let answer = nkey.answer(b"nonce").await.expect("an answer");
        assert_eq!((answer.nkey, answer.jwt), (Some(public), None));
        let jwt = Identity::Jwt { jwt: "eyJ.a.b".into(), seed: Some(seed.as_str().into()) };
        let answer = jwt.answer(b"nonce").await.expect("an answer");
        assert_eq!((answer.nkey, answer.jwt.as_deref()), (None, Some("eyJ.a.b")));
        assert!(answer.signature.is_some());
        assert!(!format!("{nkey:?} {jwt:?}").contains(&seed));
    }
}
