//! Says who we are, and proves it to a server that asks for a signature.

use async_nats::AuthError;
use nkeys::KeyPair;

use crate::shell::config::{Auth, Secret, SecretSource, unreadable};
use crate::shell::failure::{Failure, FailureKind};

/// A login: files are read at every connect.
#[derive(Clone, Debug)]
pub(super) struct Identity(Auth);

/// What one connect needs.
#[derive(Default)]
struct Keys {
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    jwt: Option<String>,
    /// What signs.
    pair: Option<KeyPair>,
}

impl Identity {
    /// `None` where there is no login.
    pub(super) fn of(auth: &Auth) -> Option<Self> {
        (*auth != Auth::Nothing).then(|| Self(auth.clone()))
    }

    /// The answer to the nonce of a server.
    pub(super) async fn answer(&self, nonce: &[u8]) -> Result<async_nats::Auth, AuthError> {
        let Keys { user, password, token, jwt, pair } = self.keys().await.map_err(AuthError::new)?;
        let mut auth = async_nats::Auth::new();
        if let Some(pair) = pair {
            auth.signature = Some(pair.sign(nonce).map_err(|_| AuthError::new("the seed cannot sign"))?);
            // A JWT names its key itself.
            auth.nkey = jwt.is_none().then(|| pair.public_key());
        }
        (auth.username, auth.password, auth.token, auth.jwt) = (user, password, token, jwt);
        Ok(auth)
    }

    async fn keys(&self) -> Result<Keys, Failure> {
        match &self.0 {
            Auth::Nothing => Ok(Keys::default()),
            Auth::Token(token) => {
                Ok(Keys { token: Some(line("the token", token).await?), ..Keys::default() })
            }
            Auth::Password { user, password } => Ok(Keys {
                user: Some(line("the user name", user).await?),
                password: Some(line("the password", password).await?),
                ..Keys::default()
            }),
            Auth::Nkey(source) => {
                Ok(Keys { pair: Some(seed_of("the NKey seed", source).await?), ..Keys::default() })
            }
            Auth::Creds(source) => {
                let text = read("the credentials", source).await?;
                let place = place("the credentials", source);
                let jwt =
                    block(text.expose(), "NATS USER JWT").ok_or_else(|| no_block(&place, "user JWT"))?;
                let seed =
                    block(text.expose(), "USER NKEY SEED").ok_or_else(|| no_block(&place, "NKey seed"))?;
                Ok(Keys { jwt: Some(jwt.to_owned()), pair: Some(pair(seed, &place)?), ..Keys::default() })
            }
            Auth::Jwt { jwt, seed } => {
                let text = read("the user JWT", jwt).await?;
                let jwt = block(text.expose(), "NATS USER JWT").unwrap_or_else(|| text.expose().trim());
                let pair = match seed {
                    Some(seed) => Some(seed_of("the user seed", seed).await?),
                    None => None,
                };
                Ok(Keys { jwt: Some(jwt.to_owned()), pair, ..Keys::default() })
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

async fn read(what: &str, source: &SecretSource) -> Result<Secret, Failure> {
    match source {
        SecretSource::Text(text) => Ok(text.clone()),
        SecretSource::File(path) => tokio::fs::read_to_string(path)
            .await
            .map(Secret::from)
            .map_err(|error| unreadable(what, path, &error)),
    }
}

/// A secret without the line end that editors put behind it in a file; what is given in place is taken as it is.
async fn line(what: &str, source: &SecretSource) -> Result<String, Failure> {
    let text = read(what, source).await?;
    Ok(match source {
        SecretSource::Text(_) => text.expose().to_owned(),
        SecretSource::File(_) => text.expose().trim_end_matches(['\r', '\n']).to_owned(),
    })
}

async fn seed_of(what: &str, source: &SecretSource) -> Result<KeyPair, Failure> {
    let text = read(what, source).await?;
    let place = place(what, source);
    let seed = seed_line(text.expose()).ok_or_else(|| bad_seed(&place))?;
    pair(seed, &place)
}

/// How to speak of where the material is, without showing it.
fn place(what: &str, source: &SecretSource) -> String {
    match source {
        SecretSource::File(path) => format!("{what} in {}", path.display()),
        SecretSource::Text(_) => what.to_owned(),
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
        let nkey = |text: String| Auth::Nkey(SecretSource::Text(Secret::from(text)));
        let creds = |text: String| Auth::Creds(SecretSource::Text(Secret::from(text)));
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
            checked(Auth::Creds(SecretSource::File("/nowhere/a.creds".into()))).await.expect_err("no file");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.to_string().contains("/nowhere/a.creds"), "{failure}");
    }

    #[tokio::test]
    async fn an_nkey_answers_with_its_public_key_and_a_jwt_without() {
        let seed = seed();
        let public = KeyPair::from_seed(&seed).expect("a seed").public_key();
        let nkey = Identity(Auth::Nkey(seed.as_str().into()));
        let answer = nkey.answer(b"nonce").await.expect("an answer");
        assert_eq!((answer.nkey, answer.jwt), (Some(public), None));
        let jwt = Identity(Auth::Jwt { jwt: "eyJ.a.b".into(), seed: Some(seed.as_str().into()) });
        let answer = jwt.answer(b"nonce").await.expect("an answer");
        assert_eq!((answer.nkey, answer.jwt.as_deref()), (None, Some("eyJ.a.b")));
        assert!(answer.signature.is_some());
        assert!(!format!("{nkey:?} {jwt:?}").contains(&seed));
    }

    #[tokio::test]
    async fn a_secret_in_a_file_is_read_at_every_connect() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("secret");
        let file = SecretSource::File(path.clone());
        let token = Identity(Auth::Token(file.clone()));
        let user = Identity(Auth::Password { user: "u".into(), password: file });
        for secret in ["one", "two"] {
            std::fs::write(&path, format!("{secret}\r\n")).expect("a file");
            let answer = token.answer(b"nonce").await.expect("an answer");
            assert_eq!((answer.token.as_deref(), answer.username), (Some(secret), None));
            let answer = user.answer(b"nonce").await.expect("an answer");
            assert_eq!((answer.username.as_deref(), answer.password.as_deref()), (Some("u"), Some(secret)));
        }
        assert!(!format!("{token:?} {user:?}").contains("two"));
    }
}
