//! Checks the files of TLS before they are used, so that an error names the file.

use std::path::Path;

use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::rustls::{ClientConfig, RootCertStore};

use crate::shell::config::{Tls, reason};
use crate::shell::failure::{Failure, FailureKind};

/// Whether the files are there, hold PEM of the right sort, and fit together.
pub(super) async fn check(tls: &Tls) -> Result<(), Failure> {
    if let Some(ca) = &tls.ca {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("the CA file", ca).await? {
            roots.add(certificate).map_err(|_| {
                let what = "holds a certificate that cannot be trusted as an authority";
                wrong(
                    "the CA file",
                    ca,
                    what,
                    "give the certificate of the authority that signed the server's",
                )
            })?;
        }
    }
    if let Some((cert, key)) = &tls.client {
        let chain = certificates("the client certificate", cert).await?;
        let private = private_key(key).await?;
        let builder = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
        builder.with_client_auth_cert(chain, private).map_err(|_| {
            let what = format!("does not belong to the private key {}", key.display());
            wrong(
                "the client certificate",
                cert,
                &what,
                "give the key that the certificate was made for, with --tlskey",
            )
        })?;
    }
    Ok(())
}

async fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = read(what, path).await?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let fitting = parsed.ok().filter(|certificates| !certificates.is_empty());
    fitting.ok_or_else(|| {
        wrong(what, path, "holds no certificate", "give a PEM file with a -----BEGIN CERTIFICATE----- block")
    })
}

async fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    let what = "the client key";
    let pem = read(what, path).await?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let hint = "give a PEM file with a -----BEGIN PRIVATE KEY----- block that no passphrase protects";
        wrong(what, path, "holds no private key", hint)
    })
}

async fn read(what: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    tokio::fs::read(path).await.map_err(|error| {
        let problem = format!("cannot be read: {}", reason(&error));
        wrong(what, path, &problem, "check the path, and that this user may read the file")
    })
}

fn wrong(what: &str, path: &Path, problem: &str, hint: &str) -> Failure {
    Failure::new(FailureKind::Config, format!("{what} {} {problem}", path.display()), hint)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn file(directory: &Path, name: &str, text: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    #[tokio::test]
    async fn each_file_that_cannot_be_used_is_named_with_what_is_wrong() {
        let home = tempfile::tempdir().expect("a directory");
        let one = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a certificate");
        let two = rcgen::generate_simple_self_signed(["b".to_owned()]).expect("a certificate");
        let cert = file(home.path(), "cert.pem", &one.cert.pem());
        let key = file(home.path(), "key.pem", &one.signing_key.serialize_pem());
        let other = file(home.path(), "other.pem", &two.signing_key.serialize_pem());
        let text = file(home.path(), "text.pem", "not PEM");
        let gone = home.path().join("gone.pem");
        let ca = |path: &PathBuf| Tls { ca: Some(path.clone()), ..Tls::default() };
        let pair = |cert: &PathBuf, key: &PathBuf| Tls {
            client: Some((cert.clone(), key.clone())),
            ..Tls::default()
        };
        for (tls, wanted) in [
            (ca(&cert), None),
            (pair(&cert, &key), None),
            (ca(&gone), Some("gone.pem cannot be read")),
            (ca(&text), Some("text.pem holds no certificate")),
            (ca(&key), Some("key.pem holds no certificate")),
            (pair(&text, &key), Some("text.pem holds no certificate")),
            (pair(&cert, &text), Some("text.pem holds no private key")),
            (pair(&cert, &other), Some("cert.pem does not belong to the private key")),
        ] {
            let outcome = check(&tls).await;
            assert_eq!(outcome.is_ok(), wanted.is_none(), "{tls:?}: {outcome:?}");
            if let (Err(failure), Some(wanted)) = (outcome, wanted) {
                assert_eq!(failure.kind(), FailureKind::Config);
                assert!(failure.to_string().contains(wanted), "{failure}");
                assert!(!failure.hint().is_empty());
            }
        }
    }
}
