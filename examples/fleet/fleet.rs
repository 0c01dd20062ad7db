//! A simulated fleet on a real nats-server: connections to its system account that answer what watchers ask.
//!
//! They speak the protocol of NATS themselves, so that a burst of answers is one write: ten megabytes are out in a few
//! milliseconds, as from ten thousand servers at once.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::system::{Random, Shape, Simulated, servers};

/// What happens to the answers on their way.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// The least and the most that a server takes to answer; each takes always the same time.
    pub delay: (Duration, Duration),
    /// How many of a thousand answers are lost.
    pub loss_per_mille: u64,
}

/// So often the servers say that they are there, as real ones do: another server counts them by that.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// The connections look this often whether they are to end.
const POLL: Duration = Duration::from_millis(200);
/// So many answers are written at once.
const BATCH: usize = 2_500;

/// What all connections share.
struct Shared {
    servers: Vec<Simulated>,
    /// By the ids of their runs.
    index: BTreeMap<String, usize>,
    way: Way,
    delays: Vec<Duration>,
    seed: u64,
    sequence: AtomicU64,
    stop: AtomicBool,
}

/// The running fleet. It ends when it is dropped.
pub struct Fleet {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Fleet {
    /// Connects to the server at `address` (`host:port`) over `connections` connections, each for a share of the
    /// servers, and says that they are there.
    pub fn start(
        address: &str,
        login: (&str, &str),
        shape: &Shape,
        way: Way,
        connections: usize,
    ) -> io::Result<Self> {
        let servers = servers(shape);
        let index = servers.iter().enumerate().map(|(number, server)| (server.id.clone(), number)).collect();
        let mut random = Random::new(shape.seed ^ 1);
        let (least, most) = way.delay;
        let spread = most.saturating_sub(least).as_micros().max(1);
        let delays = servers
            .iter()
            .map(|_| {
                least + Duration::from_micros(u64::try_from(u128::from(random.next()) % spread).unwrap_or(0))
            })
            .collect();
        let shared = Arc::new(Shared {
            servers,
            index,
            way,
            delays,
            seed: shape.seed,
            sequence: AtomicU64::new(1),
            stop: AtomicBool::new(false),
        });
        let share = shared.servers.len().div_ceil(connections.max(1)).max(1);
        let mut threads = Vec::new();
        for first in (0..shared.servers.len()).step_by(share) {
            let range = first..(first + share).min(shared.servers.len());
            let line = Line::connect(address, login, first == 0)?;
            let shared = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || {
                // The server has ended, or we have.
                line.serve(&shared, range).ok();
            }));
        }
        Ok(Self { shared, threads })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
enum Question {
    Jsz,
    Statsz,
    Healthz,
}

/// One connection.
struct Line {
    reader: BufReader<TcpStream>,
    writer: Arc<Mutex<TcpStream>>,
}

impl Line {
    fn connect(address: &str, login: (&str, &str), first: bool) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::with_capacity(1 << 16, stream);
        reader.read_line(&mut String::new())?;
        let (user, password) = login;
        let mut hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"echo\":false,\"user\":\"{user}\",\"pass\":\"{password}\",\"lang\":\"rust\",\"version\":\"1\",\"protocol\":1,\"name\":\"fleet\"}}\r\nSUB $SYS.REQ.SERVER.PING.JSZ 1\r\nSUB $SYS.REQ.SERVER.PING.STATSZ 2\r\nSUB $SYS.REQ.SERVER.PING 2\r\n"
        );
        if first {
            hello += "SUB $SYS.REQ.SERVER.*.JSZ 4\r\nSUB $SYS.REQ.SERVER.*.STATSZ 5\r\nSUB $SYS.REQ.SERVER.*.HEALTHZ 6\r\n";
        }
        hello += "PING\r\n";
        writer.write_all(hello.as_bytes())?;
        let mut said = String::new();
        while !said.starts_with("PONG") {
            said.clear();
            if reader.read_line(&mut said)? == 0 || said.starts_with("-ERR") {
                return Err(io::Error::other(format!("the server refuses the fleet: {said}")));
            }
        }
        reader.get_ref().set_read_timeout(Some(POLL))?;
        Ok(Self { reader, writer: Arc::new(Mutex::new(writer)) })
    }

    /// Answers for these servers until the connection or the fleet ends.
    fn serve(mut self, shared: &Arc<Shared>, range: std::ops::Range<usize>) -> io::Result<()> {
        let mut told: Option<SystemTime> = None;
        let mut said = String::new();
        while !shared.stop.load(Ordering::Relaxed) {
            if told.is_none_or(|told| told.elapsed().is_ok_and(|ago| ago >= HEARTBEAT)) {
                self.say_that_they_are_there(shared, range.clone())?;
                told = Some(SystemTime::now());
            }
            match self.reader.read_line(&mut said) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // What was read of a line stays in `said`.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    continue;
                }
                Err(error) => return Err(error),
            }
            let line = std::mem::take(&mut said);
            if line.starts_with("PING") {
                write(&self.writer, b"PONG\r\n")?;
            } else if let Some(message) = line.strip_prefix("MSG ") {
                self.hear(message, shared, &range)?;
            }
        }
        Ok(())
    }

    fn say_that_they_are_there(&self, shared: &Shared, range: std::ops::Range<usize>) -> io::Result<()> {
        let mut out = Vec::new();
        for server in shared.servers[range].iter().filter(|server| server.alive) {
            let subject = format!("$SYS.SERVER.{}.STATSZ", server.id);
            publish(&mut out, &subject, |out| {
                server.write_statsz(out, shared.sequence.fetch_add(1, Ordering::Relaxed), now_ns());
            });
        }
        write(&self.writer, &out)
    }

    /// Takes a message: `<subject> <sid> [reply] <size>`, and its payload.
    fn hear(&mut self, line: &str, shared: &Arc<Shared>, range: &std::ops::Range<usize>) -> io::Result<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let size: usize = words.last().and_then(|size| size.parse().ok()).unwrap_or(0);
        let mut left = size + 2;
        while left > 0 {
            match self.reader.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(read) => {
                    let taken = read.len().min(left);
                    self.reader.consume(taken);
                    left -= taken;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let [subject, sid, reply, _] = words[..] else { return Ok(()) };
        let token = subject.split('.').nth(3).unwrap_or_default();
        let (question, whom) = match sid {
            "1" => (Question::Jsz, range.clone()),
            "2" => (Question::Statsz, range.clone()),
            _ => {
                let Some(one) = shared.index.get(token) else { return Ok(()) };
                let question = match sid {
                    "4" => Question::Jsz,
                    "5" => Question::Statsz,
                    _ => Question::Healthz,
                };
                (question, *one..one + 1)
            }
        };
        let answer = Answering {
            question,
            whom,
            reply: reply.to_owned(),
            shared: Arc::clone(shared),
            writer: Arc::clone(&self.writer),
        };
        if shared.way.delay.1.is_zero() {
            answer.at_once()
        } else {
            std::thread::spawn(move || answer.in_time().ok());
            Ok(())
        }
    }
}

/// A request that is being answered.
struct Answering {
    question: Question,
    whom: std::ops::Range<usize>,
    reply: String,
    shared: Arc<Shared>,
    writer: Arc<Mutex<TcpStream>>,
}

impl Answering {
    fn at_once(self) -> io::Result<()> {
        let all: Vec<usize> = self.whom.clone().collect();
        self.answer(&all)
    }

    /// Everybody answers after the time that it takes, in steps of a millisecond.
    fn in_time(self) -> io::Result<()> {
        let mut steps: BTreeMap<u128, Vec<usize>> = BTreeMap::new();
        for number in self.whom.clone() {
            steps.entry(self.shared.delays[number].as_millis()).or_default().push(number);
        }
        let begun = SystemTime::now();
        for (at, numbers) in steps {
            let at = Duration::from_millis(u64::try_from(at).unwrap_or(u64::MAX));
            std::thread::sleep(at.saturating_sub(begun.elapsed().unwrap_or_default()));
            self.answer(&numbers)?;
        }
        Ok(())
    }

    fn answer(&self, numbers: &[usize]) -> io::Result<()> {
        let mut out = Vec::new();
        for batch in numbers.chunks(BATCH) {
            out.clear();
            for number in batch {
                let server = &self.shared.servers[*number];
                let sequence = self.shared.sequence.fetch_add(1, Ordering::Relaxed);
                let chance = Random::new(self.shared.seed ^ (sequence << 8)).next() % 1_000;
                if !server.alive || chance < self.shared.way.loss_per_mille {
                    continue;
                }
                publish(&mut out, &self.reply, |out| match self.question {
                    Question::Jsz => server.write_jsz(out, sequence, now_ns()),
                    Question::Statsz => server.write_statsz(out, sequence, now_ns()),
                    Question::Healthz => out.extend_from_slice(b"{\"status\":\"ok\"}"),
                });
            }
            write(&self.writer, &out)?;
        }
        Ok(())
    }
}

/// `PUB <subject> <size>`, and the payload.
fn publish(out: &mut Vec<u8>, subject: &str, payload: impl FnOnce(&mut Vec<u8>)) {
    /// As many digits as every size has.
    const SIZE: usize = 8;
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(subject.as_bytes());
    out.extend_from_slice(b" 00000000\r\n");
    let start = out.len();
    payload(out);
    let size = format!("{:08}", out.len() - start);
    out[start - 2 - SIZE..start - 2].copy_from_slice(size.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write(writer: &Mutex<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    let mut writer = writer.lock().map_err(|_| io::Error::other("a thread of the fleet has panicked"))?;
    writer.write_all(bytes)
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
