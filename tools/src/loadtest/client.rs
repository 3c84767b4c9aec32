//! One keep-alive connection, opened anew when it breaks.
//!
//! The connection is driven by the task that uses it, not by one of its own: an exchange then
//! costs no hand-over between tasks, which would show up as latency of the server.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::str::FromStr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::redis;
use super::workload::{Api, Generator, Operation, OperationKind};

/// The server under test.
#[derive(Clone, Debug)]
pub struct Target {
    url: String,
    /// `host:port`.
    address: String,
    host: HeaderValue,
    is_redis: bool,
}

impl Target {
    /// The URL as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is to be asked in the protocol of Redis.
    pub fn is_redis(&self) -> bool {
        self.is_redis
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Target, String> {
        let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
        let (is_redis, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("redis") => (true, 6379),
            _ => {
                return Err(
                    "a URL such as http://127.0.0.1:8080 is expected; TLS is not spoken".into()
                );
            }
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err("the URL has no path: requests go to /".into());
        }
        let (Some(host), Some(authority)) = (uri.host(), uri.authority()) else {
            return Err("the URL names no host".into());
        };
        if authority.as_str().contains('@') {
            return Err("the URL carries no user: the server under test asks for none".into());
        }
        let header = HeaderValue::from_str(authority.as_str())
            .map_err(|_| "the host of the URL is not a valid header".to_owned())?;
        let address = format!("{host}:{}", uri.port_u16().unwrap_or(port));
        Ok(Target { url: url.to_owned(), address, host: header, is_redis })
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 200 or 201, with a value (or nothing, as a put is answered).
    Answered,
    /// 200, and there is no value.
    Null,
    /// Anything else.
    Failed(Failure),
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The server answered with this status.
    Status(u16),
    /// Redis answered with an error.
    Refused,
    /// No connection could be opened.
    Connect,
    /// The connection broke before the answer was complete.
    Broken,
    /// No complete answer in time.
    Timeout,
    /// Not sent: the schedule ran ahead of the server, and the run ended.
    Unsent,
}

impl Failure {
    /// The name by which reports count it.
    pub(crate) fn name(self) -> String {
        match self {
            Failure::Status(status) => status.to_string(),
            Failure::Refused => "refused".to_owned(),
            Failure::Connect => "connect".to_owned(),
            Failure::Broken => "broken".to_owned(),
            Failure::Timeout => "timeout".to_owned(),
            Failure::Unsent => "unsent".to_owned(),
        }
    }
}

type Body = Full<Bytes>;

/// An operation, ready to be sent.
#[expect(clippy::large_enum_variant, reason = "a box would cost each request an allocation")]
pub(crate) enum Message {
    Http(Request<Body>),
    Redis(Vec<u8>),
}

/// A worker's connection.
pub(crate) struct Client {
    target: Arc<Target>,
    timeout: Duration,
    link: Option<Link>,
}

/// An open connection.
enum Link {
    Http(Box<HttpLink>),
    Redis(redis::Link),
}

struct HttpLink {
    sender: SendRequest<Body>,
    /// `None` once it is closed.
    connection: Option<Connection<TokioIo<TcpStream>, Body>>,
}

impl Client {
    /// Opens the connection. `timeout` bounds every exchange, and the opening.
    pub(crate) async fn open(target: Arc<Target>, timeout: Duration) -> io::Result<Client> {
        let link = match tokio::time::timeout(timeout, Link::open(&target)).await {
            Ok(link) => link?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        Ok(Client { target, timeout, link: Some(link) })
    }

    /// Renders an operation, so that [`Client::send`] has nothing left to do but send.
    pub(crate) fn message(&self, generator: &Generator, operation: &Operation) -> Message {
        if generator.api() == Api::Redis {
            return Message::Redis(redis::command(&generator.words(operation)));
        }
        let body = generator.body(operation);
        let is_json = !body.is_empty();
        let mut request = Request::new(Full::from(body));
        *request.uri_mut() = Uri::try_from(generator.target(operation))
            .expect("targets are made of letters, digits and the signs of a query");
        request.headers_mut().insert(HOST, self.target.host.clone());
        if operation.kind == OperationKind::Put {
            *request.method_mut() = Method::PUT;
        }
        if is_json {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
        }
        Message::Http(request)
    }

    /// Sends a request and reads the whole answer. After a failure the next call opens a new
    /// connection.
    pub(crate) async fn send(&mut self, message: Message) -> Outcome {
        // Given up, an exchange drops its connection: the answer may still come, and would be
        // taken for that of the next request.
        let exchange = tokio::time::timeout(self.timeout, self.exchange(message));
        exchange.await.unwrap_or(Outcome::Failed(Failure::Timeout))
    }

    async fn exchange(&mut self, mut message: Message) -> Outcome {
        loop {
            let fresh = self.link.is_none();
            let mut link = match self.link.take() {
                Some(link) => link,
                None => match Link::open(&self.target).await {
                    Ok(link) => link,
                    Err(_) => return Outcome::Failed(Failure::Connect),
                },
            };
            match link.exchange(message).await {
                Ok(outcome) => {
                    self.link = Some(link);
                    return outcome;
                }
                // A server may close an idle connection; a request that never left is sent again.
                Err(Some(unsent)) if !fresh => message = unsent,
                Err(_) => return Outcome::Failed(Failure::Broken),
            }
        }
    }
}

impl Link {
    async fn open(target: &Target) -> io::Result<Link> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        if target.is_redis {
            return Ok(Link::Redis(redis::Link::new(stream)));
        }
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok(Link::Http(Box::new(HttpLink { sender, connection: Some(connection) })))
    }

    /// On failure the connection is of no more use; the message comes back if it was never sent.
    async fn exchange(&mut self, message: Message) -> Result<Outcome, Option<Message>> {
        match (self, message) {
            (Link::Http(link), Message::Http(request)) => {
                link.exchange(request).await.map_err(|unsent| unsent.map(Message::Http))
            }
            (Link::Redis(link), Message::Redis(command)) => {
                link.exchange(&command).await.map_err(|_| None)
            }
            // Only where a plan's target and its API don't fit.
            _ => Err(None),
        }
    }
}

impl HttpLink {
    async fn exchange(&mut self, request: Request<Body>) -> Result<Outcome, Option<Request<Body>>> {
        let HttpLink { sender, connection } = self;
        drive(connection, async move {
            if sender.ready().await.is_err() {
                return Err(Some(request));
            }
            match sender.try_send_request(request).await {
                Ok(response) => drain(response).await.map_err(|_| None),
                Err(mut error) => Err(error.take_message()),
            }
        })
        .await
    }
}

/// Reads an answer to its end, without keeping it.
async fn drain(response: Response<Incoming>) -> hyper::Result<Outcome> {
    let status = response.status();
    let mut body = response.into_body();
    let mut first: Option<Bytes> = None;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            first = first.or((!data.is_empty()).then_some(data));
        }
    }
    Ok(match (status, first) {
        (StatusCode::OK, Some(data)) if is_nothing(&data) => Outcome::Null,
        (StatusCode::OK | StatusCode::CREATED, _) => Outcome::Answered,
        _ => Outcome::Failed(Failure::Status(status.as_u16())),
    })
}

/// Whether an answer that begins so says that there is no value.
fn is_nothing(answer: &[u8]) -> bool {
    const MISS: &[u8] = br#","found":false"#;
    // No other JSON text begins with an `n`. Our values have no member `found`, and keys are short.
    answer[0] == b'n' || answer.len() < 256 && answer.windows(MISS.len()).any(|part| part == MISS)
}

/// Runs `exchange` to its end, and the connection beside it for as long as that takes.
async fn drive<F: Future>(
    connection: &mut Option<Connection<TokioIo<TcpStream>, Body>>,
    exchange: F,
) -> F::Output {
    let mut exchange = pin!(exchange);
    poll_fn(|context| {
        if let Poll::Ready(output) = exchange.as_mut().poll(context) {
            return Poll::Ready(output);
        }
        if let Some(open) = connection
            && Pin::new(open).poll(context).is_ready()
        {
            // Only by its drop does the exchange learn that it waits in vain.
            *connection = None;
        }
        exchange.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::loadtest::workload::{Distribution, Profile, Stream, Workload};

    #[test]
    fn a_target_is_an_http_host_and_nothing_more() {
        let target: Target = "http://127.0.0.1:8080".parse().unwrap();
        assert_eq!(target.address, "127.0.0.1:8080");
        assert_eq!("http://db/".parse::<Target>().unwrap().address, "db:80");
        assert_eq!("http://[::1]:90".parse::<Target>().unwrap().address, "[::1]:90");
        let redis: Target = "redis://db".parse().unwrap();
        assert!(redis.is_redis() && !target.is_redis());
        assert_eq!(redis.address, "db:6379");
        for bad in
            ["", "db:80", "https://db", "http://db/v1", "http://db/?a", "http://u@db", "http://"]
        {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    /// Answers each connection with the texts of one list, then closes it.
    fn serve(scheme: &str, answers: &'static [&'static [&'static str]]) -> Arc<Target> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for connection in answers {
                let (mut stream, _) = listener.accept().unwrap();
                for answer in *connection {
                    let mut request = [0; 4096];
                    assert_ne!(stream.read(&mut request).unwrap(), 0);
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        Arc::new(format!("{scheme}://{address}").parse().unwrap())
    }

    async fn outcomes(target: Arc<Target>, count: u64) -> Vec<Outcome> {
        let api = if target.is_redis() { Api::Redis } else { Api::Root };
        let generator = Generator::new(Profile {
            api,
            workload: Workload::Floor,
            keys: 10,
            versions: 1,
            first_version: 1,
            distribution: Distribution::Uniform,
            read_share: 1.0,
            value_bytes: 0,
            seed: 0,
        });
        let mut client = Client::open(target, Duration::from_secs(5)).await.unwrap();
        let mut outcomes = Vec::new();
        for index in 0..count {
            let operation = generator.operation(Stream::Measured, index);
            outcomes.push(client.send(client.message(&generator, &operation)).await);
        }
        outcomes
    }

    const VALUE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    const NULL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nnull\n";
    const MISS: &str = concat!(
        "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n",
        r#"{"key":"k","found":false,"ts":null,"value":null}"#,
        "\r\n"
    );
    const CREATED: &str = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
    const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}";
    const CUT_OFF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{";
    const LAST: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

    #[tokio::test]
    async fn answers_are_told_apart_on_one_connection() {
        let target = serve("http", &[&[VALUE, NULL, BUSY, MISS, CREATED]]);
        assert_eq!(
            outcomes(target, 5).await,
            [
                Outcome::Answered,
                Outcome::Null,
                Outcome::Failed(Failure::Status(503)),
                Outcome::Null,
                Outcome::Answered
            ]
        );
    }

    #[tokio::test]
    async fn a_closed_connection_is_no_failure_and_a_broken_answer_is_one() {
        let target = serve("http", &[&[LAST], &[CUT_OFF], &[VALUE]]);
        assert_eq!(
            outcomes(target, 3).await,
            [Outcome::Answered, Outcome::Failed(Failure::Broken), Outcome::Answered]
        );
    }

    #[tokio::test]
    async fn redis_answers_in_its_own_protocol() {
        let target = serve(
            "redis",
            &[&["*1\r\n$2\r\n{}\r\n", "*0\r\n", ":1\r\n", "-ERR no\r\n", "?"], &[":0\r\n"]],
        );
        assert_eq!(
            outcomes(target, 6).await,
            [
                Outcome::Answered,
                Outcome::Null,
                Outcome::Answered,
                Outcome::Failed(Failure::Refused),
                Outcome::Failed(Failure::Broken),
                Outcome::Answered
            ]
        );
    }
}
