//! An engine that lies, stammers, hangs up or says nothing: never evidence of an end, always within the deadline.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use signalbox::engine::docker::Docker;
use signalbox::engine::{Engine, Error, Exit, Output, Signal, Stage, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

const VERSION: &str = r#"{"ApiVersion":"1.41","Version":"20.10.24"}"#;

/// A socket that answers `GET /version` as an engine does, and everything else with `answer` as it is. An empty answer
/// never comes.
struct Fake {
    path: PathBuf,
    /// What it was asked but for its version, in first lines.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn new(answer: &'static str) -> Self {
        Self::with(vec![("", answer)])
    }

    /// One that answers each question with what stands beside the first of these that is in its first line.
    fn with(answers: Vec<(&'static str, &'static str)>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("signalbox-fake-{}-{}.sock", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let (answers, asked) = (Arc::new(answers), Arc::<Mutex<Vec<String>>>::default());
        let all = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (answers, all) = (Arc::clone(&answers), Arc::clone(&all));
                tokio::spawn(async move {
                    let mut asked = vec![0; 65536];
                    let length = stream.read(&mut asked).await.unwrap();
                    let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
                    let line = asked.lines().next().unwrap_or_default();
                    if line.contains("/version ") {
                        stream.write_all(json("200 OK", VERSION).as_bytes()).await.unwrap();
                        return;
                    }
                    all.lock().unwrap().push(line.to_owned());
                    let (_, answer) = answers.iter().find(|(of, _)| line.contains(of)).unwrap();
                    if answer.is_empty() {
                        std::future::pending::<()>().await;
                    } else {
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Self { path, asked }
    }

    fn engine(&self) -> Docker {
        Docker::connect(Some(&format!("unix://{}", self.path.display())), "fleet", "worker").unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn json(status: &str, text: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

fn answer(status: &str, text: &str) -> &'static str {
    json(status, text).leak()
}

fn state(state: &str) -> &'static str {
    answer("200 OK", &format!(r#"{{"Id":"a","State":{state}}}"#))
}

#[tokio::test]
async fn nonsense_is_no_answer() {
    for nonsense in [
        answer("200 OK", "<html>welcome</html>"),
        answer("200 OK", r#"{"Id":"a","State":{"Stat"#),
        answer("200 OK", "{}"),
        answer("200 OK", ""),
        answer("500 Internal Server Error", r#"{"message":"no"}"#),
        answer("404 Not Found", r#"{"message":"page not found"}"#),
        "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"Id\":",
        "\u{1}\u{2}\u{3}\r\n\r\n",
    ] {
        let fake = Fake::new(nonsense);
        let answered = fake.engine().inspect("a").await;
        let refused = nonsense.contains("page not found") && matches!(answered, Err(Error::Refused(_)));
        assert!(refused || matches!(answered, Err(Error::Unavailable(_))), "{nonsense:?}: {answered:?}");
        assert!(fake.engine().wait("a").await.is_err(), "{nonsense:?}");
        assert!(fake.engine().list().await.is_err(), "{nonsense:?}");
    }
}

#[tokio::test]
async fn only_a_state_that_fits_together_is_an_end() {
    let over = r#"{"Status":"exited","Running":false,"ExitCode":137,"OOMKilled":false,"FinishedAt":"2026-11-22T06:00:00Z"}"#;
    let fake = Fake::new(state(over));
    assert_eq!(fake.engine().inspect("a").await.unwrap(), Status::Exited(Exit { code: 137, oom: false }));
    for (was, becomes) in [
        (r#""Running":false"#, r#""Running":true"#),
        (r#""Running":false,"#, ""),
        ("2026-11-22T06:00:00Z", "0001-01-01T00:00:00Z"),
        (r#","FinishedAt":"2026-11-22T06:00:00Z""#, ""),
        (r#""ExitCode":137,"#, ""),
        (r#""Status":"exited","#, ""),
        (r#""Status":"exited""#, r#""Status":"created""#),
    ] {
        assert!(over.contains(was));
        let odd = over.replace(was, becomes);
        let status = Fake::new(state(&odd)).engine().inspect("a").await;
        let created = odd.contains("created") && matches!(status, Ok(Status::Created));
        assert!(created || matches!(status, Err(Error::Unavailable(_))), "{odd}: {status:?}");
    }
    for alive in ["running", "paused", "restarting", "removing"] {
        let fake = Fake::new(state(&over.replace("exited", alive)));
        assert_eq!(fake.engine().inspect("a").await.unwrap(), Status::Alive);
    }
}

/// Whatever a kill is answered, what is asked afterwards is what became of the container; and that isn't known.
#[tokio::test]
async fn a_kill_that_is_answered_oddly_is_no_end() {
    for (odd, taken) in [
        (answer("204 No Content", ""), true),
        (answer("304 Not Modified", ""), true),
        (answer("404 Not Found", r#"{"message":"page not found"}"#), false),
        (answer("409 Conflict", r#"{"message":"Container a is not running"}"#), false),
        (answer("500 Internal Server Error", r#"{"message":"no"}"#), false),
        ("HTTP/1.1 204 No", false),
        ("\u{1}\u{2}\u{3}\r\n\r\n", false),
    ] {
        let fake = Fake::new(odd);
        let killed = fake.engine().signal("a", Signal::Kill).await;
        assert_eq!(killed.is_ok(), taken, "{odd:?}: {killed:?}");
        assert!(!matches!(killed, Err(Error::Absent)), "{odd:?}");
        let status = fake.engine().inspect("a").await;
        assert!(!matches!(status, Ok(Status::Exited(_) | Status::Absent)), "{odd:?}: {status:?}");
        assert!(fake.engine().wait("a").await.is_err(), "{odd:?}");
    }
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let fake = Fake::new("");
    let engine = fake.engine();
    let begun = Instant::now();
    assert!(matches!(engine.signal("a", Signal::Kill).await, Err(Error::Unavailable(_))));
    assert!(matches!(engine.inspect("a").await, Err(Error::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_engine_that_is_down_may_come_up_later() {
    let path = std::env::temp_dir().join(format!("signalbox-late-{}.sock", std::process::id()));
    let engine = Docker::connect(Some(&format!("unix://{}", path.display())), "fleet", "worker").unwrap();
    assert!(matches!(engine.list().await, Err(Error::Unavailable(_))));
    assert!(matches!(engine.about().await, Err(Error::Unavailable(_))));
    let fake = Fake::new(answer("200 OK", "[]"));
    std::fs::rename(&fake.path, &path).unwrap();
    assert_eq!(engine.list().await.unwrap(), vec![]);
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
async fn output_that_breaks_off_is_an_error_and_not_an_end() {
    let fake = Fake::new("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n\u{1}\0\0\0\0\0\0\u{8}");
    let said: Vec<_> = fake.engine().output("a").collect().await;
    assert!(matches!(said.as_slice(), [Err(Error::Unavailable(_))]), "{said:?}");
}

/// A log as the engine sends it: a frame each, of standard output or error.
fn log(frames: &[(u8, &str)]) -> &'static str {
    let framed = frames.iter().map(|(stream, text)| {
        format!("{}\0\0\0\0\0\0{}{text}", char::from(*stream), char::from(text.len() as u8))
    });
    let body: String = framed.collect();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    Box::leak((head + &body).into_boxed_str())
}

#[tokio::test]
async fn a_followed_log_that_ends_too_soon_is_read_again() {
    let exited = r#"{"Status":"exited","Running":false,"ExitCode":0,"FinishedAt":"2026-11-28T10:00:00Z"}"#;
    let fake = Fake::with(vec![
        ("follow=true", log(&[(1, "one\n"), (2, "err")])),
        ("follow=false", log(&[(1, "one\ntw"), (2, "error\n"), (1, "o\n")])),
        ("/wait", answer("200 OK", r#"{"StatusCode":0}"#)),
        ("/json", state(exited)),
    ]);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut pieces = fake.engine().output("a");
    while let Some(piece) = pieces.next().await {
        match piece.unwrap() {
            Output::Stdout(bytes) => out.extend(bytes),
            Output::Stderr(bytes) => err.extend(bytes),
        }
    }
    assert_eq!(
        (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err)),
        ("one\ntwo\n".into(), "error\n".into())
    );
}

fn cell() -> signalbox::engine::Cell {
    signalbox::engine::Cell {
        run: 1,
        fence: 1,
        image: "agent:1".to_owned(),
        model: None,
        limits: signalbox::model::agent::Limits {
            memory_mib: 64,
            milli_cpus: 500,
            pids: 32,
            time: Duration::from_secs(60),
        },
        gate_dir: "/nowhere".into(),
        gate_token: "t".to_owned(),
    }
}

#[tokio::test]
async fn the_name_is_taken_or_the_image_missing() {
    let cell = cell();
    let taken = Fake::new(answer("409 Conflict", r#"{"message":"The container name is already in use"}"#));
    assert!(matches!(taken.engine().start(&cell).await, Err(Error::Exists)));
    let missing = Fake::new(answer("404 Not Found", r#"{"message":"No such image: agent:1"}"#));
    let refused = missing.engine().start(&cell).await;
    assert!(matches!(&refused, Err(Error::Refused(why)) if why.contains("agent:1")), "{refused:?}");
}

/// A full disk or a dead containerd passes, and the engine goes on answering for its version meanwhile.
#[tokio::test]
async fn a_start_that_may_go_well_another_time_is_not_refused() {
    let made = ("/create", answer("201 Created", r#"{"Id":"a","Warnings":[]}"#));
    for (odd, passes) in [
        (answer("500 Internal Server Error", r#"{"message":"no space left on device"}"#), true),
        (answer("503 Service Unavailable", r#"{"message":"no space left on device"}"#), true),
        ("HTTP/1.1 500 Int", true),
        ("\u{1}\u{2}\u{3}\r\n\r\n", true),
        (answer("400 Bad Request", r#"{"message":"no such program"}"#), false),
    ] {
        for fake in [Fake::new(odd), Fake::with(vec![made, ("", odd)])] {
            let answered = fake.engine().start(&cell()).await;
            match passes {
                true => assert!(matches!(answered, Err(Error::Unavailable(_))), "{odd:?}: {answered:?}"),
                false => assert!(matches!(answered, Err(Error::Refused(_))), "{odd:?}: {answered:?}"),
            }
            if odd.contains("no space left") {
                assert!(answered.unwrap_err().to_string().contains("no space left"), "{odd:?}");
            }
        }
    }
}

/// A listing of containers in these states.
fn listing(states: impl Iterator<Item = &'static str>) -> &'static str {
    let one = |(n, state): (usize, &str)| {
        format!(
            r#"{{"Id":"c{n}","State":"{state}","Status":"so","Labels":{{"signalbox.run":"{n}","signalbox.fence":"7"}}}}"#
        )
    };
    let all: Vec<String> = states.enumerate().map(one).collect();
    answer("200 OK", &format!("[{}]", all.join(",")))
}

#[tokio::test]
async fn a_list_is_one_question_however_many_there_are() {
    let states = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
    let fake = Fake::new(listing(states.into_iter().cycle().take(100)));
    let found = fake.engine().list().await.unwrap();
    let stages: Vec<Stage> = found.iter().take(7).map(|found| found.stage).collect();
    use Stage::{Alive, Created, Over};
    assert_eq!((found.len(), stages), (100, vec![Created, Alive, Alive, Alive, Alive, Over, Over]));
    assert_eq!(fake.asked.lock().unwrap().len(), 1, "{:?}", fake.asked);
}

#[tokio::test]
async fn what_a_listing_leaves_open_is_asked_for() {
    let over = r#"{"Status":"exited","Running":false,"ExitCode":0,"FinishedAt":"2026-11-22T06:00:00Z"}"#;
    let list = ("/containers/json", listing(["", "running"].into_iter()));
    let found = Fake::with(vec![list, ("", state(over))]).engine().list().await.unwrap();
    assert_eq!((found[0].stage, found[1].stage), (Stage::Over, Stage::Alive));
    let dumb = Fake::with(vec![list, ("", answer("500 Internal Server Error", "{}"))]);
    assert!(dumb.engine().list().await.is_err(), "what may be there isn't left out");
    let gone = ("", answer("404 Not Found", r#"{"message":"No such container: c0"}"#));
    assert_eq!(Fake::with(vec![list, gone]).engine().list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_removal_or_a_list_that_is_answered_oddly_is_none() {
    let gone = answer("404 Not Found", r#"{"message":"No such container: a"}"#);
    let going = answer("409 Conflict", r#"{"message":"removal of container a is already in progress"}"#);
    for fine in [answer("204 No Content", ""), gone, going] {
        Fake::new(fine).engine().remove("a").await.unwrap();
    }
    for odd in [
        answer("409 Conflict", r#"{"message":"You cannot remove a running container a"}"#),
        answer("500 Internal Server Error", r#"{"message":"device or resource busy"}"#),
        answer("404 Not Found", r#"{"message":"page not found"}"#),
        "HTTP/1.1 204 No",
        "\u{1}\u{2}\u{3}\r\n\r\n",
    ] {
        let fake = Fake::new(odd);
        assert!(fake.engine().remove("a").await.is_err(), "{odd:?}");
        assert!(fake.engine().list().await.is_err(), "{odd:?}");
    }
    assert_eq!(Fake::new(answer("200 OK", "[]")).engine().list().await.unwrap(), []);
}

#[tokio::test]
async fn an_address_of_another_kind_is_refused() {
    for host in ["ssh://host", "npipe:////./pipe/x", "/var/run/docker.sock"] {
        assert!(matches!(Docker::connect(Some(host), "fleet", "worker"), Err(Error::Refused(_))), "{host}");
    }
}
