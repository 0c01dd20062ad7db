//! Connections that are encrypted: whom they trust, and how they fail.

use metawatch::shell::config::ConnectFlags;
use metawatch::shell::failure::FailureKind;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair as TlsKey};

use super::connect::{Certificates, Server, fails, works};

#[tokio::test]
async fn tls_is_used_and_its_failures_name_what_to_give() {
    let mut server = Server::new();
    let certificates = Certificates::new(&server);
    let ca = |ca: &str| ConnectFlags { tlsca: Some(ca.into()), ..server.flags() };
    let (trusted, untrusted, blind) = (ca(&certificates.ca), ca(&certificates.other_ca), server.flags());
    let tls = FailureKind::Tls;

    server.start(&format!("tls {{ {} }}", certificates.server)).await;
    works("the authority", &server, trusted.clone()).await;
    let scheme = ConnectFlags { tlsca: trusted.tlsca.clone(), ..server.flags_with("tls", "") };
    works("the scheme", &server, scheme).await;
    fails("no authority", blind.clone(), tls, "signed by an unknown authority", "--tlsca").await;
    fails("another authority", untrusted, tls, "signed by an unknown authority", "--tlsca").await;
    server.stop();

    server.start(&format!("tls {{ {} }}", certificates.elsewhere)).await;
    fails("another name", trusted.clone(), tls, "not for \"127.0.0.1\"", "--server").await;
    server.stop();

    server.start("").await;
    fails("a plain server", trusted.clone(), tls, "TLS", "speak no TLS").await;
    let first = ConnectFlags { tlsfirst: true, ..trusted.clone() };
    fails("a plain server, TLS first", first.clone(), tls, "TLS", "speak no TLS").await;
    server.stop();

    server.start(&format!("tls {{ {}, handshake_first: true }}", certificates.server)).await;
    works("TLS first", &server, first).await;
    fails("a server that wants TLS first", trusted, FailureKind::Unreachable, "127.0.0.1", "--tlsfirst")
        .await;
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_or_what_is_wrong_with_it_is_told() {
    let mut server = Server::new();
    let block = |name: &str, is_ca: IsCa| {
        let key = TlsKey::generate().expect("a key");
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
        params.is_ca = is_ca;
        let certificate = params.self_signed(&key).expect("a certificate");
        let cert = server.write(&format!("{name}.pem"), &certificate.pem());
        let key = server.write(&format!("{name}.key"), &key.serialize_pem());
        (format!("tls {{ cert_file: {cert:?}, key_file: {key:?} }}"), cert)
    };
    let unsaid = block("unsaid", IsCa::NoCa);
    let no = block("no", IsCa::ExplicitNoCa);
    let yes = block("yes", IsCa::Ca(BasicConstraints::Unconstrained));
    for (what, (tls, cert)) in [("nothing of an authority", unsaid), ("CA:FALSE", no)] {
        server.start(&tls).await;
        works(what, &server, ConnectFlags { tlsca: Some(cert), ..server.flags() }).await;
        fails(what, server.flags(), FailureKind::Tls, "signed by an unknown authority", "--tlsca").await;
        server.stop();
    }
    let (tls, cert) = yes;
    server.start(&tls).await;
    let own = ConnectFlags { tlsca: Some(cert), ..server.flags() };
    fails("CA:TRUE", own, FailureKind::Tls, "certificate is that of an authority", "CA:FALSE").await;
}

#[tokio::test]
async fn a_client_certificate_is_given_when_asked_for() {
    let mut server = Server::new();
    let certificates = Certificates::new(&server);
    let with = |pair: &(String, String)| ConnectFlags {
        tlsca: Some(certificates.ca.clone()),
        tlscert: Some(pair.0.clone()),
        tlskey: Some(pair.1.clone()),
        ..server.flags()
    };
    let (mine, foreign) = (with(&certificates.client), with(&certificates.foreign));
    let none = ConnectFlags { tlscert: None, tlskey: None, ..mine.clone() };
    server
        .start(&format!("tls {{ {}, ca_file: {:?}, verify: true }}", certificates.server, certificates.ca))
        .await;
    works("a client certificate", &server, mine).await;
    fails("no certificate", none, FailureKind::Tls, "TLS", "--tlscert").await;
    fails("a foreign certificate", foreign, FailureKind::Tls, "TLS", "--tlscert").await;
}
