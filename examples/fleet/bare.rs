//! The least that any client does: it asks, takes the replies that it knows will come, and drops them.

use std::io;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use futures_util::StreamExt;

const REQUEST: &str = "$SYS.REQ.SERVER.PING.JSZ";

async fn connect(url: &str) -> io::Result<Client> {
    let options = async_nats::ConnectOptions::with_user_and_password("admin".into(), "admin".into());
    options.subscription_capacity(65_536).connect(url).await.map_err(io::Error::other)
}

async fn ask(client: &Client, inbox: &str, replies: &mut Subscriber, count: usize) -> io::Result<()> {
    client.publish_with_reply(REQUEST, inbox.to_owned(), "".into()).await.map_err(io::Error::other)?;
    let heard = replies.take(count).count().await;
    if heard == count { Ok(()) } else { Err(io::Error::other(format!("{heard} replies of {count}"))) }
}

/// Connects, asks once, and ends.
pub(crate) async fn once(url: &str, count: usize) -> io::Result<()> {
    let client = connect(url).await?;
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.map_err(io::Error::other)?;
    ask(&client, &inbox, &mut replies, count).await
}

/// Asks again and again, until it is ended.
pub(crate) async fn again(url: &str, count: usize, interval: Duration) -> io::Result<()> {
    let client = connect(url).await?;
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.map_err(io::Error::other)?;
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        ask(&client, &inbox, &mut replies, count).await?;
    }
}
