//! Files that are packed: gzip is read as it comes, any other is named with the command that unpacks it.

use std::io::{self, Cursor, ErrorKind, Read};

use flate2::read::MultiGzDecoder;

use crate::shell::config::reason;
use crate::shell::failure::{Failure, FailureKind};

/// So many bytes at the beginning tell what a file is packed with.
const HEAD: usize = 6;
/// gzip begins so (RFC 1952).
const GZIP: &[u8] = b"\x1f\x8b";
/// How others begin, what they are called, and what unpacks them onto stdout.
const OTHERS: [(&[u8], &str, &str); 7] = [
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"),
    (b"\xfd7zXZ\0", "xz", "xz -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
    (b"\xff\x06\0\0sN", "snappy", "snzip -dc"),
    (b"PK\x03\x04", "zip", "unzip -p"),
    (b"\x1f\x9d", "compress", "gzip -dc"),
];

/// What `packed` holds, unpacked. `name` is what it is called in messages.
pub(super) fn unpack(mut packed: Box<dyn Read>, name: &str) -> Result<Box<dyn Read>, Failure> {
    let mut head = Vec::with_capacity(HEAD);
    packed.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(|error| unreadable(name, &error))?;
    let other = OTHERS.iter().find(|(begin, _, _)| head.starts_with(begin));
    if let Some((_, what, command)) = other {
        return Err(Failure::new(
            FailureKind::Input,
            format!("{name} is packed with {what}, and only gzip is read as it is"),
            format!("unpack it first: {command} FILE | metawatch … -"),
        ));
    }
    let is_gzip = head.starts_with(GZIP);
    let whole = Cursor::new(head).chain(packed);
    Ok(if is_gzip { Box::new(Gzip(MultiGzDecoder::new(whole))) } else { Box::new(whole) })
}

/// The failure of something that cannot be read.
pub(super) fn unreadable(name: &str, error: &io::Error) -> Failure {
    let hint = if error.kind() == ErrorKind::InvalidData {
        "save what can be unpacked, and give that: gzip -dc FILE > RECORDING"
    } else {
        "give the path of a file that this user can read, or - for stdin"
    };
    let why = if error.raw_os_error().is_some() { reason(error) } else { error.to_string() };
    Failure::new(FailureKind::Io, format!("cannot read {name}: {why}"), hint)
}

/// Says of what the failure is: the words of the decoder alone could mean anything.
struct Gzip<R>(MultiGzDecoder<R>);

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            let unreadable = [ErrorKind::InvalidData, ErrorKind::InvalidInput, ErrorKind::UnexpectedEof];
            if unreadable.contains(&error.kind()) {
                io::Error::new(ErrorKind::InvalidData, format!("its gzip is damaged or cut short ({error})"))
            } else {
                error
            }
        })
    }
}
