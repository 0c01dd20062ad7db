use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::epoch::Ended;
use crate::recording::{Item, items};

fn job(raw: Capture) -> Job {
    let opened = Stamp::new(0, 1_795_380_222_300_000_000);
    Job {
        number: 7,
        opened,
        closed: opened.plus(Duration::from_millis(4)),
        ended: Ended::AllHeard,
        asked_statsz: false,
        interval: Duration::from_secs(2),
        raw,
    }
}

fn at(seconds: i64) -> Stamp {
    Stamp::new(seconds * 1_000_000_000, 0)
}

#[test]
fn an_epoch_becomes_one_line_that_is_read_back() {
    let mut raw = Capture::default();
    raw.connected_to = "s1".into();
    raw.replies = vec![b"{\"server\":{\"name\":\"s1\"},\r\n \"big\":12345678901234567890.10}".to_vec()];
    raw.replies.push(b"{\"server\":".to_vec());
    raw.replies.push(vec![0xff; 10_000]);
    raw.statsz = vec![b"{}".to_vec()];
    raw.events.push((at(1), "$SYS.SERVER.N1.SHUTDOWN".into(), b"{\"name\":\"s3\"}".to_vec()));
    raw.events.push((at(1), "$SYS.SERVER.N2.SHUTDOWN".into(), b"oops".to_vec()));
    let line = line(&job(raw)).unwrap();
    let text = std::str::from_utf8(&line).unwrap();
    assert_eq!(text.matches('\n').count(), 1);
    assert!(text.ends_with("}\n"), "{text}");
    assert!(text.contains("\"big\":12345678901234567890.10"), "numbers stay as they were sent");
    assert!(text.contains("\"unreadable\":[\"{\\\"server\\\":\",\""), "{text}");
    assert!(line.len() < 3 * UNREADABLE_BYTES_MAX + 1_000, "an unreadable reply is cut");
    let read: Vec<_> = items(&line, 1).map(Result::unwrap).collect();
    let [Item::Epoch(epoch)] = &read[..] else { panic!("{read:?}") };
    assert_eq!((epoch.v, epoch.epoch, epoch.elapsed_ms, epoch.interval_ms), (1, 7, 4, Some(2_000)));
    assert_eq!((&*epoch.opened, epoch.ended), ("2026-11-22T20:43:42.300Z", Some(Ended::AllHeard)));
    assert_eq!((epoch.replies.len(), epoch.statsz.is_none(), epoch.events.len()), (1, true, 1));
    assert_eq!(epoch.connected_to.as_deref(), Some("s1"));
    assert_eq!(epoch.own_statsz.len(), 1, "nobody else was asked");
}

/// A disk that takes so many bytes.
#[derive(Clone, Debug, Default)]
struct Disk(Rc<RefCell<(Vec<u8>, usize)>>);

impl Disk {
    fn with_room(room: usize) -> Self {
        Self(Rc::new(RefCell::new((Vec::new(), room))))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().0.clone()).unwrap()
    }

    fn writer(&self) -> LineWriter<Self, impl FnMut() -> io::Result<Opened<Self>> + use<>> {
        let disk = self.clone();
        let mut writer = LineWriter::new(None, move || {
            let within_line = disk.0.borrow().0.last().is_some_and(|last| *last != b'\n');
            Ok(Opened { file: disk.clone(), within_line })
        });
        assert!(matches!(writer.write(b"{1}\n", at(0)), Wrote::Line));
        writer
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (written, room) = &mut *self.0.borrow_mut();
        let taken = bytes.len().min(*room);
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *room -= taken;
        written.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_told_once_and_no_line_follows_half_a_line() {
    let disk = Disk::with_room(6);
    let mut writer = disk.writer();
    assert!(matches!(writer.write(b"{22}\n", at(1)), Wrote::Failed(_)));
    assert_eq!(disk.text(), "{1}\n{2");
    assert!(matches!(writer.write(b"{3}\n", at(2)), Wrote::Nothing), "a pause");
    assert!(matches!(writer.write(b"{4}\n", at(61)), Wrote::Nothing), "tried again, and told already");
    disk.0.borrow_mut().1 = 1_000;
    assert!(matches!(writer.write(b"{5}\n", at(62)), Wrote::Nothing), "the pause starts anew");
    assert!(matches!(writer.write(b"{6}\n", at(121)), Wrote::Again));
    assert!(matches!(writer.write(b"{7}\n", at(122)), Wrote::Line));
    assert_eq!(disk.text(), "{1}\n{2\n{6}\n{7}\n");
}

#[tokio::test]
async fn a_recording_is_continued_behind_whatever_it_holds() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("r.ndjson");
    std::fs::write(&path, "{\"v\":1,\"epoch\":1,\"repl").unwrap();
    for number in [2, 3] {
        let mut recorder = Recorder::open(&path, Duration::from_secs(2)).unwrap();
        let gathered = crate::epoch::Epoch::open(plan(number), at(0)).close(at(1), Ended::Deadline);
        recorder.record(&gathered, Capture::default());
        recorder.finish(Duration::from_secs(10)).await;
    }
    let text = std::fs::read(&path).unwrap();
    let read: Vec<_> = items(&text, 1).collect();
    assert_eq!(read.len(), 3);
    assert_eq!(read[0].as_ref().unwrap_err().line, 1);
    assert!(matches!(&read[2], Ok(Item::Epoch(epoch)) if epoch.epoch == 3));
}

#[test]
fn a_file_that_cannot_be_written_fails_at_the_start_with_a_hint() {
    let failure =
        Recorder::open(Path::new("/nowhere/at/all.ndjson"), Duration::from_secs(2)).expect_err("a failure");
    assert_eq!(failure.kind(), FailureKind::Io);
    assert!(failure.to_string().contains("/nowhere/at/all.ndjson"), "{failure}");
    assert!(failure.hint().contains("--record"));
}

fn plan(number: u64) -> crate::epoch::Plan {
    crate::epoch::Plan {
        number,
        expected: Default::default(),
        learning: true,
        ask_statsz: false,
        patience: Duration::from_secs(1),
        settle: Duration::ZERO,
    }
}
