//! The HTTP side, asked by clients that behave and by clients that do not.

#![allow(clippy::disallowed_methods, reason = "how long a client is borne is real time")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use metawatch::shell::failure::FailureKind;
use metawatch::shell::http::{HttpOptions, HttpServer};
use metawatch::status::Limits;
use metawatch::status::vitals::Vitals;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::metrics::Samples;
use crate::model::World;
use crate::status::{Looking, group, healthy};

const LONG: Duration = Duration::from_secs(60);

fn serve(hosts: &[&str]) -> HttpServer {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    HttpServer::start(HttpOptions { listen, hosts }).unwrap()
}

fn looking(epochs: usize) -> Looking {
    let mut looking = Looking::new(Limits::PAGE);
    looking.watch(&healthy(), epochs);
    looking
}

/// Everything that is answered to these bytes, until the server closes the connection.
pub(crate) async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that refuses early may close before it has read all.
    stream.write_all(request).await.ok();
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut part = [0; 4_096];
    let reading = async {
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            answer.extend_from_slice(&part[..count]);
        }
    };
    timeout(LONG, reading).await.expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: SocketAddr, line: &str, more: &str) -> String {
    let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
    ask(address, request.as_bytes()).await
}

#[track_caller]
fn has(answer: &str, status: u16, parts: &[&str]) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    for part in parts {
        assert!(answer.contains(part), "no {part:?} in {answer}");
    }
}

#[tokio::test]
async fn the_page_and_its_document_are_served_and_nothing_else() {
    let server = serve(&["page.example.org"]);
    let address = server.address();
    let before = get(address, "GET /status.json", "").await;
    has(&before, 200, &["content-type: application/json\r\n", "\r\n\r\nnull"]);
    has(&get(address, "GET /", "").await, 200, &["waiting for the first epoch"]);
    server.publish(Some(looking(3).status()), None);
    let document = get(address, "GET /status.json", "").await;
    has(&document, 200, &[r#""status":"OK""#, r#""role":"active""#]);
    let page = get(address, "GET /", "").await;
    let policy = "content-security-policy: default-src 'none'; script-src 'sha256-";
    let safe =
        [policy, "x-content-type-options: nosniff", "cache-control: no-store", "frame-ancestors 'none'"];
    has(&page, 200, &safe);
    has(&page, 200, &["<!doctype html>", "all 2 meta groups are well"]);
    assert!(!page.contains("unsafe-inline") && !page.to_lowercase().contains("access-control-allow"));
    has(&get(address, "GET /?reload=1", "").await, 200, &["<!doctype html>"]);
    let head = get(address, "HEAD /", "").await;
    has(&head, 200, &["content-length: "]);
    assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
    has(&get(address, "HEAD /events", "").await, 200, &["text/event-stream"]);
    has(&get(address, "GET /nothing", "").await, 404, &["/status.json", "nosniff"]);
    has(&get(address, "GET /../../etc/passwd", "").await, 404, &[]);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let answer = get(address, &format!("{method} /"), "Content-Length: 0\r\n").await;
        has(&answer, 405, &["allow: GET, HEAD", "nosniff"]);
    }
    assert_eq!(
        get(address, "GET /status.json", "").await.lines().last(),
        document.lines().last(),
        "nothing changed"
    );
}

#[tokio::test]
async fn numbers_are_served_in_the_format_that_is_asked_for() {
    let server = serve(&[]);
    let address = server.address();
    let before = get(address, "GET /metrics", "").await;
    has(
        &before,
        200,
        &["content-type: text/plain; version=0.0.4; charset=utf-8\r\n", "metawatch_build_info{"],
    );
    has(&before, 200, &["\nmetawatch_ready 0\n", "nosniff"]);
    server.publish(None, Some(looking(3).numbers()));
    let accept =
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n";
    let open = get(address, "GET /metrics", accept).await;
    has(&open, 200, &["content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"]);
    assert!(open.ends_with("\n# EOF\n"), "{open}");
    let plain = get(address, "GET /metrics?name=ignored", "Accept: text/plain\r\n").await;
    assert!(!plain.contains("# EOF"), "{plain}");
    let [open, plain] = [open, plain].map(|answer| {
        let (_, page) = answer.split_once("\r\n\r\n").unwrap();
        Samples::read(page)
    });
    assert_eq!((open.series(), open.len() > 100), (plain.series(), true));
    let head = get(address, "HEAD /metrics", "").await;
    has(&head, 200, &["content-length: "]);
    assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
    let long = format!("Accept: {}\r\n", "application/openmetrics-text;q=0.1,".repeat(400));
    has(&get(address, "GET /metrics", &long).await, 200, &["# EOF"]);
    has(&get(address, "GET /metrics", "Accept: \u{e9};q=\"\r\n").await, 200, &["text/plain"]);
    has(&get(address, "POST /metrics", "").await, 405, &[]);
}

#[tokio::test]
async fn probes_tell_a_watcher_that_works_from_one_that_can_be_relied_on() {
    let server = serve(&[]);
    let address = server.address();
    has(&get(address, "GET /healthz", "").await, 200, &["\r\n\r\nok\n"]);
    has(&get(address, "GET /readyz", "").await, 503, &["\r\n\r\nno server has been reached yet\n"]);
    let interval = Duration::from_secs(1_000);
    let vitals = |complete| Vitals { interval, complete, follows: false, stuck: false };
    server.beat(vitals(None));
    has(&get(address, "GET /readyz", "").await, 503, &["no complete epoch yet"]);
    server.beat(vitals(Some(interval)));
    has(&get(address, "GET /readyz", "").await, 200, &["ok\n"]);
    assert!(get(address, "HEAD /readyz", "").await.ends_with("\r\n\r\n"));
    server.beat(vitals(Some(interval * 4)));
    has(&get(address, "GET /readyz", "").await, 503, &["longer than 3 intervals"]);
    has(&get(address, "GET /metrics", "").await, 200, &["\nmetawatch_ready 0\n"]);
    server.beat(Vitals { follows: true, ..vitals(None) });
    has(&get(address, "GET /readyz", "").await, 200, &[]);
    has(&get(address, "GET /metrics", "").await, 200, &["\nmetawatch_ready 1\n"]);
    has(&get(address, "GET /healthz", "").await, 200, &[]);
    has(&get(address, "DELETE /healthz", "").await, 405, &[]);
}

#[tokio::test]
async fn twenty_scrapers_at_once_get_whole_pages_while_epochs_go_on() {
    let server = serve(&[]);
    let address = server.address();
    let names: Vec<String> = (0..150).map(|number| format!("n{number}\"\\")).collect();
    let of_group = |(number, names): (usize, &[String])| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        group(&names, &format!("c{number}"), &format!("d{number:03}"))
    };
    let mut looking = Looking::new(Limits::PAGE);
    looking
        .watch(&World { groups: names.chunks(5).enumerate().map(of_group).collect(), ..World::default() }, 2);
    let numbers = looking.numbers();
    server.publish(None, Some(numbers.clone()));
    let scrapers: Vec<_> = (0..20)
        .map(|number| {
            tokio::spawn(async move {
                let accept = if number % 2 == 0 { "" } else { "Accept: application/openmetrics-text\r\n" };
                for _ in 0..4 {
                    let answer = get(address, "GET /metrics", accept).await;
                    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
                    assert!(head.contains(&format!("content-length: {}", page.len())), "{head}");
                    assert_eq!(Samples::read(page).all("metawatch_meta_peer_offline", &[]).len(), 150);
                }
            })
        })
        .collect();
    while !scrapers.iter().all(tokio::task::JoinHandle::is_finished) {
        server.publish(None, Some(numbers.clone()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for scraper in scrapers {
        scraper.await.unwrap();
    }
}

#[tokio::test]
async fn a_page_of_somebody_else_cannot_use_a_browser_to_look() {
    let server = serve(&["page.example.org"]);
    let of = async |host: &str| {
        ask(server.address(), format!("GET / HTTP/1.1\r\n{host}Connection: close\r\n\r\n").as_bytes()).await
    };
    for host in ["localhost", "127.0.0.1:8222", "[::1]:8222", "page.example.org", "PAGE.example.org:80"] {
        has(&of(&format!("Host: {host}\r\n")).await, 200, &[]);
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example", "\u{e9}vil"] {
        let answer = of(&format!("Host: {host}\r\n")).await;
        assert!(
            answer.starts_with("HTTP/1.1 421 ") || answer.starts_with("HTTP/1.1 400 "),
            "{host}: {answer}"
        );
        assert!(!answer.contains("<!doctype"), "{host}: {answer}");
    }
    has(&of("").await, 421, &["--listen-host"]);
    let absolute = ask(
        server.address(),
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .await;
    has(&absolute, 421, &[]);
    let old = ask(server.address(), b"GET /status.json HTTP/1.0\r\n\r\n").await;
    assert!(old.contains(" 200 ") && old.ends_with("null"), "a probe of the old kind names no host: {old}");
}

#[tokio::test]
async fn a_scraper_and_a_probe_call_this_host_as_they_like_and_a_browser_does_not() {
    let server = serve(&[]);
    for host in
        ["metawatch:7778", "metawatch.monitoring.svc.cluster.local:7778", "10.42.0.7:7778", "[fd00::7]:7778"]
    {
        let of = async |path: &str, more: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
            ask(server.address(), request.as_bytes()).await
        };
        for agent in ["Prometheus/3.5.0", "kube-probe/1.34"] {
            let agent = format!("User-Agent: {agent}\r\n");
            has(&of("/metrics", &agent).await, 200, &["\nmetawatch_ready "]);
            assert!(!of("/healthz", &agent).await.starts_with("HTTP/1.1 421 "), "{host}");
            has(&of("/readyz", &agent).await, 503, &[]);
        }
        if host.starts_with("metawatch") {
            for browser in
                ["User-Agent: Mozilla/5.0 (X11)\r\n", "Accept-Language: en\r\n", "Accept-Language: \r\n"]
            {
                for path in ["/metrics", "/readyz"] {
                    has(&of(path, browser).await, 421, &[]);
                }
            }
            has(&of("/status.json", "").await, 421, &[]);
            has(&of("/nowhere", "").await, 421, &[]);
        }
    }
}

#[tokio::test]
async fn what_is_too_long_or_no_request_at_all_is_refused() {
    let server = serve(&[]);
    let address = server.address();
    let path = format!("GET /{}", "a".repeat(2_000));
    has(&get(address, &path, "").await, 414, &[]);
    let header = format!("X: {}\r\n", "a".repeat(40_000));
    has(&get(address, "GET /", &header).await, 431, &[]);
    let headers: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    has(&get(address, "GET /", &headers).await, 431, &[]);
    let long = ask(address, &[b'G'; 200_000]).await;
    assert!(long.is_empty() || long.starts_with("HTTP/1.1 4"), "{long}");
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let answer = ask(address, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    // A body is not read: the answer comes, and the connection ends.
    let body = get(address, "GET /status.json", "Content-Length: 10000000000\r\n").await;
    has(&body, 200, &["null"]);
    let chunked = get(address, "GET /status.json", "Transfer-Encoding: chunked\r\n").await;
    has(&chunked, 200, &["null"]);
}

#[tokio::test]
async fn a_client_that_never_ends_its_request_is_dropped() {
    let server = serve(&[]);
    let began = Instant::now();
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    let mut slow = TcpStream::connect(server.address()).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    let mut idle = TcpStream::connect(server.address()).await.unwrap();
    idle.write_all(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let trickle = async {
        // A byte a second keeps nothing open.
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if slow.write_all(b"X").await.is_err() {
                break;
            }
        }
        read_to_end(&mut slow).await
    };
    let (_, _, kept) = tokio::join!(read_to_end(&mut silent), trickle, read_to_end(&mut idle));
    assert!(kept.ends_with("null"), "{kept}");
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_thousand_connections_have_a_limit_and_the_next_ones_are_served_again() {
    let server = serve(&[]);
    server.publish(Some(looking(2).status()), None);
    let before = resident();
    let mut open = Vec::new();
    for _ in 0..1_000 {
        // More than a queue of connections holds are made one after the other.
        if let Ok(Ok(stream)) = timeout(Duration::from_secs(2), TcpStream::connect(server.address())).await {
            open.push(stream);
        }
    }
    assert!(open.len() > 400, "{}", open.len());
    let mut answered = 0;
    let mut refused = 0;
    for stream in &mut open {
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.ok();
    }
    for stream in &mut open {
        let mut part = [0; 12];
        match timeout(Duration::from_secs(5), stream.read_exact(&mut part)).await {
            Ok(Ok(_)) if &part == b"HTTP/1.1 200" => answered += 1,
            Ok(Ok(_)) if &part == b"HTTP/1.1 503" => refused += 1,
            Ok(Ok(_)) => panic!("{}", String::from_utf8_lossy(&part)),
            // Closed without a word.
            Ok(Err(_)) => refused += 1,
            Err(_) => panic!("no answer and no end"),
        }
    }
    let grown = resident().saturating_sub(before);
    assert_eq!(answered, 128, "so many pages are live at once");
    assert!(refused > 200, "{refused}");
    assert!(grown < 32 << 10, "{} connections cost {grown} kB", open.len());
    drop(open);
    tokio::time::sleep(Duration::from_millis(500)).await;
    has(&get(server.address(), "GET /", "").await, 200, &["<!doctype html>"]);
}

/// The memory of this process, in kB, the clients among it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn every_page_hears_of_every_epoch_and_of_the_end() {
    let server = serve(&[]);
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut heard = String::new();
    let mut part = [0; 65_536];
    let mut looking = looking(1);
    for number in 0..5 {
        // Before the first epoch there is nothing to tell, and that is told.
        let mut words = "event: status\ndata: null".to_owned();
        if number > 0 {
            server.publish(Some(looking.status()), None);
            looking.watch(&healthy(), 1);
            words = format!(r#""epoch":{{"number":{number},"#);
        }
        let reading = async {
            while !heard.contains(&words) {
                let count = stream.read(&mut part).await.unwrap();
                heard.push_str(&String::from_utf8_lossy(&part[..count]));
            }
        };
        timeout(LONG, reading).await.expect("the epoch");
    }
    drop(server);
    read_to_end(&mut stream).await;
}

#[tokio::test]
async fn a_page_that_takes_nothing_is_dropped_and_holds_up_nobody() {
    let server = serve(&[]);
    let names: Vec<String> = (0..90).map(|number| format!("{number}-{}", "n".repeat(100))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut looking = Looking::new(Limits::PAGE);
    looking.watch(&World { groups: vec![group(&names, "c1", "")], ..World::default() }, 2);
    let status = looking.status();
    let mut stuck = TcpStream::connect(server.address()).await.unwrap();
    stuck.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let began = Instant::now();
    // It takes nothing; what it is sent fills its buffers, and then waits for it.
    let mut published = 0;
    while began.elapsed() < Duration::from_secs(18) {
        server.publish(Some(status.clone()), None);
        published += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(published > 300, "publishing waits for nobody: {published}");
    has(&get(server.address(), "GET /status.json", "").await, 200, &[r#""status":"OK""#]);
    // What was on its way comes, and then the end.
    read_to_end(&mut stuck).await;
}

#[tokio::test]
async fn a_port_that_another_program_has_is_told() {
    let server = serve(&[]);
    let port = server.address().port();
    let failure = HttpServer::start(HttpOptions { listen: server.address(), hosts: Vec::new() }).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Io);
    assert!(failure.to_string().contains(&format!("cannot listen on 127.0.0.1:{port}")), "{failure}");
    assert!(failure.hint().contains("another port"), "{}", failure.hint());
}
