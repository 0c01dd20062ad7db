//! Whether the state file could be used.

use crate::doctor::{Item, Outcome};
use crate::name::printable;
use crate::shell::state_file::{StateLocation, Usable, usable};

/// What is to be said of it. A disk that does not answer is not waited for.
pub(super) async fn item(location: &StateLocation) -> Item {
    let (StateLocation::In(path) | StateLocation::IfPossible(path)) = location else {
        return Item::new("state", Outcome::Note, "kept in memory: open incidents do not survive a restart");
    };
    let file = path.clone();
    let looking = tokio::task::spawn_blocking(move || usable(&file));
    let shown = path.to_string_lossy();
    let shown = printable(&shown);
    match tokio::time::timeout(super::LISTEN[0], looking).await {
        Ok(Ok(Ok(Usable::New))) => Item::new("state", Outcome::Ok, format!("{shown}: can be written")),
        Ok(Ok(Ok(Usable::There))) => {
            Item::new("state", Outcome::Ok, format!("{shown}: there, and can be written"))
        }
        Ok(Ok(Ok(Usable::Held))) => {
            Item::new("state", Outcome::Ok, format!("{shown}: a running metawatch uses it"))
        }
        Ok(Ok(Err(failure))) => {
            Item::new("state", Outcome::Warning, failure.to_string()).next(failure.hint())
        }
        Ok(Err(_)) | Err(_) => {
            Item::new("state", Outcome::Warning, format!("{shown}: the disk does not answer"))
                .next("name a file on another disk with --state FILE")
        }
    }
}
