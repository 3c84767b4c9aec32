//! One request with a large body, over a connection of its own.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::servers::Server;
use crate::Result;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// All of it.
    pub body: Vec<Bytes>,
    /// From before the connection to the end of the answer.
    pub time: Duration,
}

impl Answer {
    /// How many lines it has.
    pub fn lines(&self) -> usize {
        self.body.iter().map(|piece| piece.split(|&byte| byte == b'\n').count() - 1).sum()
    }
}

/// Sends a request and reads the whole answer, which is to be a success.
pub fn exchange(
    server: &Server,
    method: &Method,
    target: &str,
    media_type: &str,
    body: Bytes,
) -> Result<Answer> {
    // The server has the other core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let began = Instant::now();
        let stream = TcpStream::connect(("127.0.0.1", server.port())).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, "127.0.0.1")
            .header(CONTENT_TYPE, media_type)
            .header(ACCEPT, media_type)
            .body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let mut answered = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = answered.frame().await {
            body.extend(frame?.into_data());
        }
        let answer = Answer { body, time: began.elapsed() };
        driver.abort();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&answer.body.concat()).into_owned();
            return Err(format!("{method} {target}: {status}: {text}").into());
        }
        Ok(answer)
    })
}
