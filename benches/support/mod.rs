//! What the benches share: processes to measure, a plain HTTP client that adds little, and honest statistics.

#![expect(dead_code, reason = "each bench uses a part of it")]
#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]
#![expect(clippy::disallowed_methods, reason = "benches are told by the environment where the stores are")]

mod judge;
pub(crate) mod notice;
pub(crate) mod peer;
pub(crate) mod quiet;

mod weight;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use quiet::say;

/// The password of the benches' superuser.
const PASSWORD: &str = "levers in a quiet room";

/// A variable that `deploy/dev/with-stores` sets.
pub(crate) fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} isn't set; run this by deploy/dev/with-stores, as `make bench` does")
    })
}

/// A process of ours that is ended when it goes out of scope.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// What followed `ready: `.
    pub(crate) ready: String,
}

impl Process {
    /// Starts a command and waits for its line `ready: …`.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = loop {
            let line = lines.next().expect("it ended before it was ready").expect("text");
            if let Some(ready) = line.strip_prefix("ready: ") {
                break ready.to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, ready }
    }

    /// Resident memory in MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("alive");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("KiB") / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The product itself, its logs off.
pub(crate) fn signalbox(subcommand: &[&str], database_url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_signalbox"));
    command.args(subcommand).env("DATABASE_URL", database_url).env("SIGNALBOX_LOG", "off");
    command.env("SIGNALBOX_LISTEN", "127.0.0.1:0").stdin(Stdio::null());
    command
}

/// Makes a fresh database beside the one of `DATABASE_URL`, migrated, with a superuser.
pub(crate) fn fresh_database(name: &str) -> String {
    let base = env("DATABASE_URL");
    let psql = |sql: &str| {
        let done = Command::new("psql").args(["-qX", &base, "-c", sql]).status().expect("psql");
        assert!(done.success(), "{sql}");
    };
    psql(&format!("drop database if exists {name} with (force)"));
    psql(&format!("create database {name}"));
    let (server, _) = base.rsplit_once('/').expect("a path");
    let url = format!("{server}/{name}");
    assert!(signalbox(&["migrate"], &url).status().expect("runs").success());
    let mut add =
        signalbox(&["superuser", "add", "bench"], &url).stdin(Stdio::piped()).spawn().expect("runs");
    writeln!(add.stdin.take().expect("piped"), "{PASSWORD}").expect("takes a password");
    assert!(add.wait().expect("ends").success());
    url
}

/// A connection that stays open, and the cookie that signs in.
pub(crate) struct Http {
    pub(crate) host: String,
    stream: BufReader<TcpStream>,
    pub(crate) cookie: String,
    used: Instant,
    /// The server has closed it, as some do after each answer.
    closed: bool,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header's value; it must be there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(has, _)| has.eq_ignore_ascii_case(name));
        found.next().unwrap_or_else(|| panic!("no {name} in {}", self.head)).1
    }
}

impl Http {
    /// Connects to `http://host:port`.
    pub(crate) fn connect(url: &str) -> Self {
        let host = url.strip_prefix("http://").expect("plain http").trim_end_matches('/').to_owned();
        let stream = stream(&host);
        Self { host, stream, cookie: String::new(), used: Instant::now(), closed: false }
    }

    /// Signs in as the benches' superuser.
    pub(crate) fn signed_in(url: &str) -> Self {
        let mut http = Self::connect(url);
        let form = format!("name=bench&password={}", PASSWORD.replace(' ', "+"));
        let answer = http.post("/login", &form);
        assert_eq!(answer.status, 303, "signs in: {}", answer.head);
        http.cookie = answer.header("set-cookie").split(';').next().expect("a value").to_owned();
        http
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, "")
    }

    pub(crate) fn post(&mut self, path: &str, form: &str) -> Answer {
        self.request("POST", path, form)
    }

    /// Opens a page's stream, on a connection of its own, and waits until all of the page has come.
    pub(crate) fn watch(&self, path: &str) -> Stream {
        let (host, cookie) = (&self.host, &self.cookie);
        let mut lines = stream(host);
        let text = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\n\r\n");
        lines.get_mut().write_all(text.as_bytes()).expect("writes");
        let mut stream = Stream { lines };
        stream.until("\"main\":");
        stream
    }

    fn request(&mut self, method: &str, path: &str, form: &str) -> Answer {
        if self.closed || self.used.elapsed() > IDLE {
            self.stream = stream(&self.host);
        }
        let (host, cookie) = (&self.host, &self.cookie);
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\n");
        if method == "POST" {
            text += &format!(
                "origin: http://{host}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n",
                form.len()
            );
        }
        text += "\r\n";
        text += form;
        self.stream.get_mut().write_all(text.as_bytes()).expect("writes");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.stream.read_line(&mut head).expect("reads"), 0, "closed after {head:?}");
        }
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let mut answer = Answer { status, head, body: Vec::new() };
        answer.body = vec![0; answer.header("content-length").parse().expect("a number")];
        self.stream.read_exact(&mut answer.body).expect("reads");
        self.used = Instant::now();
        let head = answer.head.to_ascii_lowercase();
        self.closed = head.starts_with("http/1.0") || head.contains("\r\nconnection: close");
        answer
    }
}

/// The stream of a page.
pub(crate) struct Stream {
    lines: BufReader<TcpStream>,
}

impl Stream {
    /// Waits for a message that holds these words.
    pub(crate) fn until(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).expect("reads"), 0, "it ended before {words}");
            if line.starts_with("data: ") && line.contains(words) {
                return line;
            }
        }
    }
}

/// How long a connection may lie idle before the server is taken to have closed it; it does after 5 s.
const IDLE: Duration = Duration::from_secs(3);

fn stream(host: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(host).expect("connects");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    BufReader::new(stream)
}

/// Milliseconds that something takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed().as_secs_f64() * 1000.0, done)
}

/// A sample of milliseconds.
#[derive(Default)]
pub(crate) struct Sample(pub(crate) Vec<f64>);

impl Sample {
    /// What this share of them is below.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * share).round() as usize]
    }

    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// One line: median, and the middle four fifths.
    pub(crate) fn line(&self, name: &str) -> String {
        format!(
            "{name:<44} {:>9.3} ms   [{:.3} – {:.3}]   n = {}",
            self.median(),
            self.at(0.1),
            self.at(0.9),
            self.0.len()
        )
    }
}
