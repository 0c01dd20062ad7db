//! The status page of `metawatch run --listen`, as a browser shows it, while a real cluster loses a server.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use metawatch::event::heartbeat::Status;
use metawatch::shell::http::{HttpOptions, HttpServer};
use metawatch::status::Limits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::three;
use super::told::Told;
use crate::cluster::LONG;
use crate::cluster::watch::Watching;
use crate::model::{Answers, World};
use crate::status::{Looking, group};

/// An address that nobody has at this moment.
fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// A Chromium, where there is one.
fn chromium() -> Option<PathBuf> {
    let given = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .flat_map(|folder| ["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name)))
        .find(|path| path.is_file());
    given.or(found)
}

#[tokio::test]
async fn whoever_listens_to_the_page_hears_of_an_outage_and_its_end() {
    let mut cluster = three().await;
    let listen = free();
    let mut watch = cluster.watch(Watching { listen: Some(listen), ..Watching::default() }).await.unwrap();
    watch.expect_status(Status::Ok).await;
    let mut stream = TcpStream::connect(listen).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let follower = cluster.follower("").await.unwrap();
    let offline = format!("{follower} is offline (crashed)");
    cluster.kill(&follower).unwrap();
    let mut heard = String::new();
    hear(&mut stream, &mut heard, |status| {
        let incident = &status["incidents"][0];
        status["status"] == "CRITICAL"
            && incident["summary"] == offline.as_str()
            && status["recent"][0]["state"] == "firing"
    })
    .await;
    cluster.boot(&follower).unwrap();
    hear(&mut stream, &mut heard, |status| {
        status["status"] == "OK"
            && status["incidents"] == json!([])
            && status["recent"][0]["state"] == "resolved"
    })
    .await;
    watch.stop().await;
}

/// Waits for an event about which this holds.
async fn hear(stream: &mut TcpStream, heard: &mut String, wanted: impl Fn(&Value) -> bool) {
    let hearing = async {
        let mut part = vec![0; 65_536];
        loop {
            while let Some((event, rest)) = heard.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let status = data.and_then(|data| serde_json::from_str::<Value>(data).ok());
                let rest = rest.to_owned();
                *heard = rest;
                if status.is_some_and(|status| wanted(&status)) {
                    return;
                }
            }
            let count = stream.read(&mut part).await.unwrap();
            assert!(count > 0, "the stream goes on");
            heard.push_str(&String::from_utf8_lossy(&part[..count]));
        }
    };
    tokio::time::timeout(LONG, hearing).await.expect("the event in time");
}

/// A browser, and where its pictures go.
struct Browser {
    told: Told,
    pictures: PathBuf,
}

impl Browser {
    /// A browser, where there is one; otherwise says that the test is skipped.
    fn start() -> Option<Self> {
        let Some(chromium) = chromium() else {
            // Not by a macro: what a test prints is kept from whoever looks on.
            let skipped =
                "live::page: skipped what needs a browser: no chromium (install it, or set CHROMIUM)\n";
            std::io::stderr().write_all(skipped.as_bytes()).unwrap();
            return None;
        };
        let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures");
        std::fs::create_dir_all(&pictures).unwrap();
        Some(Self { told: Told::start("page/browser.py", &[&chromium.to_string_lossy()], &[]), pictures })
    }

    async fn picture(&mut self, name: &str) {
        for (width, height, kind) in [(1_200, 900, "desktop"), (390, 844, "phone")] {
            self.told.tell(json!(["size", width, height])).await;
            for colours in ["light", "dark"] {
                self.told.tell(json!(["colours", colours])).await;
                let file = self.pictures.join(format!("{name}-{kind}-{colours}.png"));
                self.told.tell(json!(["picture", file])).await;
                let size = std::fs::metadata(&file).unwrap().len();
                assert!(size > 5_000, "a picture of {size} bytes");
            }
            let wide = self.told.tell(json!(["tell", "document.documentElement.scrollWidth"])).await;
            assert!(wide.as_i64().unwrap() <= width, "nothing is wider than the screen: {wide}");
        }
    }

    async fn wait(&mut self, expression: &str) {
        self.told.tell(json!(["wait", expression, 60])).await;
    }

    async fn text(&mut self) -> String {
        let text = self.told.tell(json!(["tell", "document.body.innerText"])).await;
        text.as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_page_that_stays_open_stays_small_and_shows_hostile_names_as_they_are() {
    let Some(mut browser) = Browser::start() else { return };
    let options = HttpOptions { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), hosts: Vec::new() };
    let server = HttpServer::start(options).unwrap();
    let names = [
        "<img src=x onerror=document.title='hacked'>",
        "</script><b id=bold>",
        "\u{202e}txe\u{1b}[31m",
        "s4",
    ];
    let well = World { groups: vec![group(&names, "<i>c1</i>", "")], ..World::default() };
    let mut broken = well.clone();
    let lost = broken.groups[0].server(names[1]).unwrap();
    (lost.answers, lost.cut) = (Answers::Not, true);
    let mut looking = Looking::new(Limits::PAGE);
    looking.watch(&well, 3);
    server.publish(Some(looking.status()), None);
    browser.told.tell(json!(["open", format!("http://{}/", server.address())])).await;
    browser.wait("document.querySelectorAll('tbody tr').length === 4").await;
    looking.watch(&broken, 12);
    server.publish(Some(looking.status()), None);
    browser.wait("document.title.startsWith('CRITICAL')").await;
    let text = browser.text().await;
    for words in [names[0], "</script><b id=bold> is offline", "\\u{202e}txe\\u{1b}[31m", "<i>c1</i>"] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    let made = "document.querySelectorAll('img, #bold, i:not(.dots i)').length";
    assert_eq!(browser.told.tell(json!(["tell", made])).await, 0);
    browser.picture("hostile").await;
    let mut sizes = Vec::new();
    for _ in 0..4 {
        for _ in 0..20 {
            for world in [&well, &broken] {
                for _ in 0..12 {
                    looking.watch(world, 1);
                    server.publish(Some(looking.status()), None);
                    tokio::time::sleep(Duration::from_millis(8)).await;
                }
            }
        }
        let nodes = browser.told.tell(json!(["tell", "document.querySelectorAll('*').length"])).await;
        let heap = browser.told.tell(json!(["heap"])).await;
        sizes.push((nodes.as_i64().unwrap(), heap.as_i64().unwrap()));
    }
    let (first, last) = (sizes[0], sizes[3]);
    assert!(last.0 < 1_000 && last.0 <= first.0 + 50, "the document grows: {sizes:?}");
    assert!(last.1 < first.1 + (1 << 20), "the memory grows: {sizes:?}");
    assert_eq!(browser.told.tell(json!(["violations"])).await, json!([]));
    browser.told.end().await;
}

#[tokio::test]
async fn a_browser_shows_a_server_that_is_lost_and_comes_back() {
    let Some(mut browser) = Browser::start() else { return };
    let mut cluster = three().await;
    let listen = free();
    let mut watch = cluster.watch(Watching { listen: Some(listen), ..Watching::default() }).await.unwrap();
    watch.expect_status(Status::Ok).await;
    browser.told.tell(json!(["open", format!("http://{listen}/")])).await;
    browser
        .wait("document.title.startsWith('OK') && document.querySelectorAll('tbody tr').length === 3")
        .await;
    browser.picture("healthy").await;
    let follower = cluster.follower("").await.unwrap();
    // What somebody opened stays open from epoch to epoch.
    browser.told.tell(json!(["tell", "document.querySelector('details summary').click()"])).await;
    cluster.kill(&follower).unwrap();
    browser
        .wait(
            "document.title.startsWith('CRITICAL') && document.querySelector('.incident .command') !== null",
        )
        .await;
    let text = browser.text().await;
    for words in [
        &format!("{follower} is offline (crashed)"),
        "every route to it closed at once",
        "Failures left",
        "Copy",
        "nats --server",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    let open =
        browser.told.tell(json!(["tell", "document.querySelectorAll('tbody details[open]').length"])).await;
    assert_eq!(open, 1, "{text}");
    browser.picture("outage").await;
    cluster.boot(&follower).unwrap();
    browser.wait("document.title.startsWith('OK') && document.querySelector('.incident') === null").await;
    assert!(browser.text().await.contains("is back after"));
    // No script was stopped by the policy, and none failed.
    assert_eq!(browser.told.tell(json!(["violations"])).await, json!([]));
    watch.stop().await;
    browser.wait("document.title.startsWith('STALE')").await;
    assert!(
        browser.text().await.contains("metawatch cannot be reached"),
        "the past is not shown as the present"
    );
    browser.picture("stale").await;
    browser.told.end().await;
}
