//! The TCP stream of a connection, with the two bounds that the HTTP library doesn't have: on how
//! long a client may take to say which protocol it speaks, and on how long it may refuse to take its
//! answer. It also closes in a way that lets a refused client read why.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// What an HTTP/2 client sends first. A longer common beginning than none with it must be waited out
/// to tell HTTP/1 from HTTP/2.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection's stream. One task reads and writes it.
pub(crate) struct Socket {
    stream: TcpStream,
    /// The first bytes, read by [`sniff`](Socket::sniff); `first[replayed..first_len]` is still to be
    /// read by the HTTP library.
    first: [u8; HTTP2_PREFACE.len()],
    first_len: usize,
    replayed: usize,
    write_timeout: Duration,
    /// Runs while a write waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
    linger: Linger,
    linger_time: Duration,
    refused: Arc<AtomicBool>,
}

/// How far closing has come.
enum Linger {
    NotClosing,
    /// Our side is shut; what the client still sends is read and dropped, until the timer ends.
    Reading(Pin<Box<Sleep>>),
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, write_timeout: Duration, linger_time: Duration) -> Socket {
        Socket {
            stream,
            first: [0; HTTP2_PREFACE.len()],
            first_len: 0,
            replayed: 0,
            write_timeout,
            stalled: None,
            linger: Linger::NotClosing,
            linger_time,
            refused: Arc::new(AtomicBool::new(false)),
        }
    }

    /// To be set when a request is refused. Its body may then be unread, and closing a socket with
    /// unread bytes resets it, which can destroy the answer before the client has read it.
    pub(crate) fn refused(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.refused)
    }

    /// Waits for enough bytes to tell HTTP/1 from HTTP/2; reads will see them again. The HTTP library
    /// waits for the same without a deadline: call this under a timeout first.
    pub(crate) async fn sniff(&mut self) -> io::Result<()> {
        while self.first_len < HTTP2_PREFACE.len()
            && HTTP2_PREFACE.starts_with(&self.first[..self.first_len])
        {
            match self.stream.read(&mut self.first[self.first_len..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.first_len += read,
            }
        }
        Ok(())
    }

    /// Passes the outcome of a write on, unless writes have been waiting for too long.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let write_timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        let first = &socket.first[socket.replayed..socket.first_len];
        if first.is_empty() {
            return Pin::new(&mut socket.stream).poll_read(cx, buf);
        }
        let len = first.len().min(buf.remaining());
        buf.put_slice(&first[..len]);
        socket.replayed += len;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        let outcome = Pin::new(&mut socket.stream).poll_write(cx, buf);
        socket.bounded(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        let outcome = Pin::new(&mut socket.stream).poll_write_vectored(cx, bufs);
        socket.bounded(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        if matches!(socket.linger, Linger::NotClosing) {
            ready!(Pin::new(&mut socket.stream).poll_shutdown(cx))?;
            if !socket.refused.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
            socket.linger = Linger::Reading(Box::pin(sleep(socket.linger_time)));
        }
        let Linger::Reading(timer) = &mut socket.linger else {
            return Poll::Ready(Ok(()));
        };
        let mut dropped = [0; 8 << 10];
        loop {
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut dropped = ReadBuf::new(&mut dropped);
            let outcome = ready!(Pin::new(&mut socket.stream).poll_read(cx, &mut dropped));
            if outcome.is_err() || dropped.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
