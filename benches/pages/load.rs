//! Load: connections that stay open, each asking again as soon as it has its answer.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Http, Sample, say};

/// How many connections ask at once.
const CONNECTIONS: usize = 32;
/// How long each is measured at a time, and how often.
const FOR: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;

/// What is asked for: where, by whom, and what the n-th connection asks.
struct Asked<'a> {
    name: &'a str,
    http: &'a Http,
    path: fn(usize) -> String,
}

/// Requests per second, by turns: ours, and behind the guard's statement alone the same bytes.
pub(crate) fn measure(ours: &Http, bare: &Http) {
    let asked = [
        Asked { name: "runs page, all the same", http: ours, path: |_| "/".to_owned() },
        Asked { name: "all runs, all the same page", http: ours, path: |_| "/?state=all".to_owned() },
        Asked {
            name: "all runs, each another page",
            http: ours,
            path: |n| format!("/?state=all&before={}", 900_000 - n * 1000),
        },
        Asked {
            name: "bare, the guard's statement and the same bytes",
            http: bare,
            path: |_| "/asked/runs".to_owned(),
        },
    ];
    let mut samples: [Sample; 4] = Default::default();
    for round in 0..=ROUNDS {
        for (asked, sample) in asked.iter().zip(&mut samples) {
            let per_second = per_second(asked);
            if round > 0 {
                sample.0.push(per_second);
            }
        }
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    for (asked, sample) in asked.iter().zip(&samples) {
        say(&format!(
            "{:<48} {:>7.0} requests/s   [{:.0} – {:.0}]   {:.2} × bare; {CONNECTIONS} connections, {cores} cores with client and Postgres",
            asked.name,
            sample.median(),
            sample.at(0.0),
            sample.at(1.0),
            sample.median() / samples[3].median()
        ));
    }
}

fn per_second(asked: &Asked<'_>) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let until = Instant::now() + FOR;
        let all = (0..CONNECTIONS).map(|n| {
            let (host, cookie, path) = (&asked.http.host, &asked.http.cookie, (asked.path)(n));
            let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\n\r\n");
            tokio::spawn(ask(host.clone(), request, until))
        });
        let (all, began): (Vec<_>, _) = (all.collect(), Instant::now());
        let mut answers = 0;
        for each in all {
            answers += each.await.expect("no panic");
        }
        answers as f64 / began.elapsed().as_secs_f64()
    })
}

/// Asks until then; gives how many answers there were.
async fn ask(host: String, request: String, until: Instant) -> usize {
    let mut stream = TcpStream::connect(&host).await.expect("connects");
    stream.set_nodelay(true).expect("a socket");
    let (mut answers, mut read) = (0, vec![0; 256 * 1024]);
    while Instant::now() < until {
        stream.write_all(request.as_bytes()).await.expect("writes");
        let (mut filled, mut whole) = (0, usize::MAX);
        while filled < whole {
            let more = stream.read(&mut read[filled..]).await.expect("reads");
            assert_ne!(more, 0, "closed: {}", String::from_utf8_lossy(&read[..filled]));
            filled += more;
            if whole == usize::MAX {
                whole = length(&read[..filled]).unwrap_or(usize::MAX);
            }
        }
        answers += 1;
    }
    answers
}

/// How long an answer is whose head has come.
fn length(read: &[u8]) -> Option<usize> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&read[..end]).expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let body = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    Some(end + body.parse::<usize>().expect("a number"))
}
