//! The protocol of Redis (RESP2), as much of it as two commands need.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Failure, Outcome};

/// A command, which is an array of strings.
pub(crate) fn command(words: &[String]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// An open connection.
pub(crate) struct Link {
    stream: TcpStream,
    /// What was read of the answer.
    read: Vec<u8>,
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> Link {
        Link { stream, read: Vec::with_capacity(4096) }
    }

    /// Sends a command and reads its whole answer. After an error the connection is of no more use.
    pub(crate) async fn exchange(&mut self, command: &[u8]) -> io::Result<Outcome> {
        self.stream.write_all(command).await?;
        self.read.clear();
        loop {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match answer(&self.read) {
                Ok(None) => {}
                // One command, one answer: nothing may follow.
                Ok(Some((outcome, len))) if len == self.read.len() => return Ok(outcome),
                Ok(Some(_)) | Err(Malformed) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// That is not Redis.
#[derive(Debug, PartialEq, Eq)]
struct Malformed;

/// The answer at the beginning of `bytes`, and its length; `None` while it is not complete.
fn answer(bytes: &[u8]) -> Result<Option<(Outcome, usize)>, Malformed> {
    let mut outcome = None;
    let (mut at, mut parts) = (0, 1);
    while parts > 0 {
        let Some(line) = bytes[at..].windows(2).position(|end| end == b"\r\n") else {
            let starts_well = bytes.get(at).is_none_or(|kind| b"+-:$*".contains(kind));
            return if starts_well { Ok(None) } else { Err(Malformed) };
        };
        let line = &bytes[at..at + line];
        at += line.len() + 2;
        parts -= 1;
        let number = || -> Result<i64, Malformed> {
            str::from_utf8(&line[1..]).ok().and_then(|n| n.parse().ok()).ok_or(Malformed)
        };
        let of_part = match line.first() {
            Some(b'+') => Outcome::Answered,
            Some(b'-') => Outcome::Failed(Failure::Refused),
            Some(b':') => number().map(|_| Outcome::Answered)?,
            Some(b'$') => match usize::try_from(number()?) {
                Ok(len) => {
                    at = at.checked_add(len).and_then(|at| at.checked_add(2)).ok_or(Malformed)?;
                    Outcome::Answered
                }
                Err(_) => Outcome::Null,
            },
            Some(b'*') => match usize::try_from(number()?) {
                Ok(count) if count > 0 => {
                    parts = count.checked_add(parts).ok_or(Malformed)?;
                    Outcome::Answered
                }
                _ => Outcome::Null,
            },
            _ => return Err(Malformed),
        };
        // The first part tells: of an array its length, and nothing else has parts.
        let outcome = *outcome.get_or_insert(of_part);
        if at > bytes.len() {
            return Ok(None);
        }
        if parts == 0 {
            return Ok(Some((outcome, at)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_strings() {
        let words = ["ZADD", "k", "1", "1:{}"].map(str::to_owned);
        let expected = b"*4\r\n$4\r\nZADD\r\n$1\r\nk\r\n$1\r\n1\r\n$4\r\n1:{}\r\n";
        assert_eq!(command(&words), expected);
    }

    #[test]
    fn answers_are_told_apart_and_waited_for() {
        for (text, outcome) in [
            (":1\r\n", Outcome::Answered),
            ("+OK\r\n", Outcome::Answered),
            ("-ERR what\r\n", Outcome::Failed(Failure::Refused)),
            ("$-1\r\n", Outcome::Null),
            ("*0\r\n", Outcome::Null),
            ("*-1\r\n", Outcome::Null),
            ("*1\r\n$4\r\na\r\nb\r\n", Outcome::Answered),
            ("*2\r\n*1\r\n:7\r\n$0\r\n\r\n", Outcome::Answered),
        ] {
            assert_eq!(answer(text.as_bytes()), Ok(Some((outcome, text.len()))), "{text}");
            for len in 0..text.len() {
                assert_eq!(answer(&text.as_bytes()[..len]), Ok(None), "{len} of {text}");
            }
        }
    }

    #[test]
    fn what_is_not_redis_is_an_error() {
        let overlong = format!("${}\r\n", usize::MAX);
        for text in ["HTTP/1.1 400 Bad\r\n", "?", "\r\n", ":x\r\n", "$\r\n", "*1x\r\n", &overlong] {
            assert_eq!(answer(text.as_bytes()), Err(Malformed), "{text}");
        }
    }
}
