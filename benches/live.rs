//! Live pages: how long until a change that is written and told reaches one viewer, and all of many; what a viewer weighs, and
//! whether that is given back when they leave. `SIGNALBOX_BENCH_VIEWERS` says how many.

#![expect(clippy::expect_used, reason = "a bench that can't go on ends here")]
#![expect(clippy::disallowed_methods, reason = "benches are told by the environment what to do")]

mod support;

use std::io::{Read, Write};
use std::process::{Command, ExitCode};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use signalbox::model::run::RunId;
use signalbox::queue::{Notice, Queue};
use support::quiet::Quiet;
use support::{Http, Process, Sample, env, fresh_database, say, signalbox};

const ROUNDS: usize = 40;
/// Each holds a socket here, another one at the server.
const VIEWERS: usize = 2000;

/// Somebody's runs, one of which changes again and again.
struct Changing {
    psql: std::process::Child,
    queue: Queue,
    runtime: tokio::runtime::Runtime,
    n: usize,
}

impl Changing {
    fn new(url: &str) -> Self {
        let psql = Command::new("psql")
            .args(["-qX", url])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("psql");
        let fleet = std::env::var("SIGNALBOX_FLEET").unwrap_or_else(|_| "signalbox".to_owned());
        let queue = Queue::new(&env("REDIS_URL"), &fleet).expect("a URL");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
        Self { psql, queue, runtime, n: 0 }
    }

    /// The words by which the next change will be known.
    fn next(&mut self) -> String {
        self.n += 1;
        format!("Change {}.", self.n)
    }

    /// Writes a change, as a worker does, and tells of it. Gives the time at which it was written.
    fn change(&mut self, words: &str) -> Instant {
        let psql = self.psql.stdin.as_mut().expect("piped");
        let update = format!(
            "update runs set title = '{words}' where id = (select max(id) from runs where state = 'running');\n\\echo done\n"
        );
        psql.write_all(update.as_bytes()).expect("writes");
        let mut done = [0; 5];
        self.psql.stdout.as_mut().expect("piped").read_exact(&mut done).expect("is written");
        let written = Instant::now();
        self.runtime.block_on(self.queue.notice(Notice::Changed(RunId(1)))).expect("tells");
        written
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

fn main() -> ExitCode {
    let quiet = Quiet::begin();
    let url = fresh_database("bench_live");
    let seed = ["seed", "--runs", "10000", "--events", "1000"];
    assert!(signalbox(&seed, &url).status().expect("runs").success());
    let serve = Process::start(&mut signalbox(&["serve"], &url));
    let mut changing = Changing::new(&url);
    let one = Http::signed_in(&serve.ready);

    let mut bare = support::notice::Bare::new();
    let mut floor = Sample::default();
    let mut sample = Sample::default();
    let mut stream = one.watch("/live/runs");
    for _ in 0..ROUNDS {
        floor.0.push(bare.ms());
        let words = changing.next();
        let written = changing.change(&words);
        stream.until(&words);
        sample.0.push(written.elapsed().as_secs_f64() * 1000.0);
        // So that the next is the first after a silence.
        std::thread::sleep(Duration::from_millis(150));
    }
    say(&sample.line("a change written → one viewer has it"));

    let viewers =
        std::env::var("SIGNALBOX_BENCH_VIEWERS").ok().and_then(|n| n.parse().ok()).unwrap_or(VIEWERS);
    let before = serve.resident_mib();
    let crowd = Crowd::new(&one, viewers);
    let with = serve.resident_mib();
    let mut sample = Sample::default();
    for _ in 0..10 {
        floor.0.push(bare.ms());
        let words = changing.next();
        crowd.ask.send_replace(words.clone());
        let written = changing.change(&words);
        crowd.wait();
        sample.0.push(written.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(Duration::from_millis(300));
    }
    let after = serve.resident_mib();
    say(&sample.line(&format!("a change written → all {viewers} viewers have it")));
    let each = |mib: f64| (mib - before) * 1024.0 / viewers as f64;
    say(&format!("a viewer weighs        {:.1} KiB; after ten changes {:.1} KiB", each(with), each(after)));
    drop(crowd);
    std::thread::sleep(Duration::from_secs(8));
    say(&format!(
        "serve before, with and without them: {before:.1}, {after:.1}, {:.1} MiB",
        serve.resident_mib()
    ));
    (0..10).for_each(|_| floor.0.push(bare.ms()));
    say(&floor.line("a notice → a bare listener"));
    quiet.end(&[("a notice to a bare listener", &floor)])
}

/// Many viewers, on one thread.
struct Crowd {
    ask: tokio::sync::watch::Sender<String>,
    all: mpsc::Receiver<()>,
    viewers: usize,
}

impl Crowd {
    fn new(one: &Http, viewers: usize) -> Self {
        let (ask, asked) = tokio::sync::watch::channel("\"main\":".to_owned());
        let (has, all) = mpsc::channel();
        let (host, cookie) = (one.host.clone(), one.cookie.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
            runtime.block_on(async move {
                let mut all = tokio::task::JoinSet::new();
                for n in 0..viewers {
                    let (host, cookie, asked, has) =
                        (host.clone(), cookie.clone(), asked.clone(), has.clone());
                    all.spawn(view(host, cookie, asked, has));
                    if n % 100 == 99 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                all.join_all().await;
            });
        });
        let crowd = Self { ask, all, viewers };
        crowd.wait();
        crowd
    }

    /// Waits until all have what was asked for.
    fn wait(&self) {
        for n in 0..self.viewers {
            let has = self.all.recv_timeout(Duration::from_secs(60));
            assert!(has.is_ok(), "{} of {} have nothing", self.viewers - n, self.viewers);
        }
    }
}

/// Reads a stream; says when it has brought what is asked for.
async fn view(
    host: String,
    cookie: String,
    mut asked: tokio::sync::watch::Receiver<String>,
    has: mpsc::Sender<()>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(&host).await.expect("connects");
    let text = format!("GET /live/runs HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\n\r\n");
    socket.write_all(text.as_bytes()).await.expect("writes");
    let mut got: Vec<u8> = Vec::new();
    let mut wanted = Some(asked.borrow_and_update().clone());
    loop {
        if let Some(words) =
            wanted.as_ref().filter(|words| got.windows(words.len()).any(|it| it == words.as_bytes()))
        {
            let _ = (words, has.send(()));
            wanted = None;
            got = Vec::new();
        }
        tokio::select! {
            read = socket.read_buf(&mut got) => if read.expect("reads") == 0 { return },
            changed = asked.changed() => match changed {
                Ok(()) => wanted = Some(asked.borrow_and_update().clone()),
                // Nobody asks any more.
                Err(_) => return,
            },
        }
        if wanted.is_none() && got.len() > 4096 {
            got = Vec::new();
        }
    }
}
