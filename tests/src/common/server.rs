//! The real server as a process of its own, and a client that hides nothing of the protocol: it has
//! one connection, follows no redirects and tries nothing twice.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::{Builder, Runtime};

use super::{binaries, document};

/// The end of every wait. What takes longer hangs, on however busy a machine.
pub(crate) const HANGS_AFTER: Duration = Duration::from_mins(1);

/// The server's command line, without what the environment of the tests would say to it.
pub(crate) fn command<S: AsRef<OsStr>>(flags: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(binaries::kvtimedb());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KVTIMEDB_") {
            command.env_remove(name);
        }
    }
    command.args(flags);
    command
}

/// The server's command line, with a free port and a directory.
pub(crate) fn server_command(data_dir: &Path, flags: &[&str]) -> Command {
    let mut command = command(["--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(data_dir).args(flags);
    command
}

/// A running process, killed when it is dropped.
pub(crate) struct Process {
    child: KilledOnDrop,
    first_line: Receiver<String>,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Which signal, if one did.
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = KilledOnDrop(command.spawn().unwrap());
        let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
        let mut stderr = child.0.stderr.take().unwrap();
        let (announce, first_line) = channel();
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_line(&mut text).unwrap();
            if text.ends_with('\n') {
                // Not everybody waits for it.
                let _ = announce.send(text.clone());
            }
            drop(announce);
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        Process { child, first_line, stdout, stderr }
    }

    /// Runs a command to its end, which must come by itself.
    pub(crate) fn run(command: Command) -> Ended {
        Process::spawn(command).wait()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.0), signal).unwrap();
    }

    /// Waits until it ends, and fails if it doesn't.
    pub(crate) fn wait(mut self) -> Ended {
        let deadline = Instant::now() + HANGS_AFTER;
        let mut status = None;
        while status.is_none() && Instant::now() < deadline {
            status = self.child.0.try_wait().unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        drop(self.child);
        let (stdout, stderr) = (self.stdout.join().unwrap(), self.stderr.join().unwrap());
        let status =
            status.unwrap_or_else(|| panic!("it hangs; stdout: {stdout}; stderr: {stderr}"));
        Ended { code: status.code(), signal: status.signal(), stdout, stderr }
    }
}

/// A server that answers.
pub(crate) struct Server {
    process: Process,
    start_line: String,
    address: SocketAddr,
}

impl Server {
    /// Starts a server on a free port.
    pub(crate) fn start(data_dir: &Path, flags: &[&str]) -> Server {
        Server::start_command(server_command(data_dir, flags))
    }

    /// Starts a server that takes its address from elsewhere.
    pub(crate) fn start_command(command: Command) -> Server {
        Server::try_start(command).unwrap_or_else(|ended| panic!("it did not start: {ended:?}"))
    }

    /// Starts a server that may refuse to.
    pub(crate) fn try_start(command: Command) -> Result<Server, Ended> {
        let process = Process::spawn(command);
        let Ok(start_line) = process.first_line.recv_timeout(HANGS_AFTER) else {
            return Err(process.wait());
        };
        let address = start_line.split_once("http://").and_then(|(_, rest)| rest.split_once(','));
        let address = address.and_then(|(address, _)| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {start_line}"));
        Ok(Server { process, start_line, address })
    }

    /// What it says when it is ready.
    pub(crate) fn start_line(&self) -> &str {
        &self.start_line
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address).unwrap()
    }

    /// Sends these bytes on a connection of their own, and returns all that comes back.
    pub(crate) fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.raw_connect();
        stream.write_all(request.as_ref()).unwrap();
        // Who refuses may have hung up by now.
        if let Err(error) = stream.shutdown(Shutdown::Write) {
            assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// A connection for a client that does as it likes.
    pub(crate) fn raw_connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(HANGS_AFTER)).unwrap();
        stream.set_write_timeout(Some(HANGS_AFTER)).unwrap();
        stream
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(self) -> Ended {
        self.process.signal(Signal::KILL);
        self.process.wait()
    }

    /// Ends it in order.
    pub(crate) fn stop(self) -> Ended {
        self.process.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for an end that comes by itself, or was asked for.
    pub(crate) fn wait(self) -> Ended {
        self.process.wait()
    }
}

/// One HTTP/1.1 connection.
pub(crate) struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// A header's text; empty if it isn't there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Client> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) =
                handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
            // How the connection ends shows in the request that waits for it.
            tokio::spawn(async move { drop(connection.await) });
            Ok::<_, io::Error>(sender)
        })?;
        Ok(Client { runtime, sender, address })
    }

    /// Sends one request and reads its answer, which has to be one that the server's document knows. An error
    /// means that the connection broke: the request may or may not have been carried out.
    pub(crate) fn try_send(&mut self, request: Request<Full<Bytes>>) -> io::Result<Answer> {
        let Client { runtime, sender, .. } = self;
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let answer = async {
            sender.ready().await.map_err(io::Error::other)?;
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            Ok::<_, io::Error>(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: String::from_utf8(body.into()).map_err(io::Error::other)?,
            })
        };
        let answer: Answer = runtime.block_on(async {
            let answer = tokio::time::timeout(HANGS_AFTER, answer).await;
            answer.expect("the server doesn't answer, and doesn't hang up either")
        })?;
        document::check(&method, &path, answer.status, answer.header("content-type"));
        Ok(answer)
    }

    /// Sends one request with these headers.
    pub(crate) fn send_with(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(target);
        request = request.header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.try_send(request.body(Full::new(body.into())).unwrap()).unwrap()
    }

    pub(crate) fn send(&mut self, method: &str, target: &str, body: impl Into<Bytes>) -> Answer {
        self.send_with(method, target, &[], body)
    }

    /// `PUT /` of a value given as JSON text.
    pub(crate) fn put(&mut self, key: &str, timestamp: i64, value: &str) -> io::Result<Answer> {
        let key = serde_json::Value::from(key);
        let body = format!(r#"{{"key":{key},"value":{value},"timestamp":{timestamp}}}"#);
        let request = Request::put("/").header("host", self.address.to_string());
        self.try_send(request.body(Full::new(body.into())).unwrap())
    }

    /// Sends one request without a body, and says if the connection breaks.
    pub(crate) fn try_to(&mut self, method: &str, target: &str) -> io::Result<Answer> {
        let request = Request::builder().method(method).uri(target);
        let request = request.header("host", self.address.to_string());
        self.try_send(request.body(Full::default()).unwrap())
    }

    /// `GET /`, asked in a body. Returns the JSON text, without the line's end.
    pub(crate) fn floor(&mut self, key: &str, timestamp: i64) -> String {
        let key = serde_json::Value::from(key);
        let answer = self.send("GET", "/", format!(r#"{{"key":{key},"timestamp":{timestamp}}}"#));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body.strip_suffix('\n').expect("a line").to_owned()
    }
}
