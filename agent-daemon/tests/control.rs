//! The control socket: what it answers, and that no client can hurt the daemon or the others.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "control/abuse.rs"]
mod abuse;

use std::{path::PathBuf, time::Duration};

use chaperone::{
    control::{
        Change, Changed, Command, Refusal,
        api::{AgentView, Labelled, ProcessView, Promoted, RollBack, RunRequest, Status},
        client::{self, Error},
        server::{self, Access},
    },
    event::{
        Event, Kind,
        mask::Masks,
        word::{InstanceId, Time},
    },
    record::followers::Followers,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

/// A server with a pipeline that knows one agent, `bot`; process 7 is inside its instance.
struct Daemon {
    socket: PathBuf,
    /// Tells the pipeline to offer events to its followers.
    offer: mpsc::Sender<Event>,
    _dir: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        Self::start_where_callers_are(None)
    }

    /// `instance`: what every process but 1 belongs to.
    fn start_where_callers_are(instance: Option<InstanceId>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/control.sock");
        let access = Access::own_user();
        let listener = server::bind(&socket, &access).unwrap();
        let (commands_in, commands) = mpsc::channel(64);
        let (offer, offered) = mpsc::channel(64);
        tokio::spawn(server::serve(listener, access, Masks::default(), commands_in));
        tokio::spawn(pipeline(commands, offered, instance));
        Self { socket, offer, _dir: dir }
    }

    async fn raw(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// Sends bytes and reads until the server closes.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.raw().await;
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(8), stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

async fn pipeline(
    mut commands: mpsc::Receiver<Command>,
    mut offered: mpsc::Receiver<Event>,
    instance: Option<InstanceId>,
) {
    let mut followers = Followers::default();
    let agent = || AgentView { name: "bot".to_owned(), ..AgentView::default() };
    loop {
        tokio::select! {
            Some(event) = offered.recv() => {
                let mut line = Vec::new();
                event.write_line(&mut line);
                followers.offer(&event, &line);
            }
            command = commands.recv() => match command {
                None => return,
                Some(Command::Labels { pids, reply }) => {
                    let label = |pid| (pid != 1).then(|| Labelled { instance, ..Labelled::default() });
                    let _ = reply.send(pids.into_iter().map(label).collect());
                }
                Some(Command::Agents { name, reply }) => {
                    let known = name.is_none_or(|name| name == "bot");
                    let _ = reply.send(known.then(agent).into_iter().collect());
                }
                Some(Command::Names { reply }) => drop(reply.send(Vec::new())),
                Some(Command::Status { reply }) => {
                    let _ = reply.send(Status { mode: "lsm".to_owned(), ..Status::default() });
                }
                Some(Command::Metrics { processes, reply }) => {
                    assert!(processes.values().sum::<u64>() > 0);
                    let _ = reply.send("chaperone_info 1\n".to_owned());
                }
                Some(Command::Run { agent, reply, .. }) => {
                    let known = vec!["bot".to_owned()];
                    let no = Refusal::NoSuchAgent { name: agent.clone(), known };
                    let _ = reply.send(if agent == "bot" { Ok(()) } else { Err(no) });
                }
                Some(Command::Baseline { ask, by, reply }) => {
                    assert!(by.uid == 0 && by.pid == Some(std::process::id()));
                    let Change::RollBack(RollBack { role, to }) = ask else { panic!("{ask:?}") };
                    let done = Promoted { role, version: to, version_before: Some(2) };
                    let _ = reply.send(Ok(Changed::Promoted(done)));
                }
                Some(Command::Follow { filter, reply }) => {
                    let _ = reply.send(followers.add(filter));
                }
            }
        }
    }
}

fn connect() -> Event {
    Event { time: Time::now(), kind: Kind::NetConnect, ..Event::default() }
}

fn refused(error: Error) -> (u16, String) {
    match error {
        Error::Refused { status, message } => (status, message),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_is_asked_is_answered() {
    let daemon = Daemon::start();
    let socket = &daemon.socket;
    assert_eq!(client::get::<Status>(socket, "/v1/status").await.unwrap().mode, "lsm");
    let all: Vec<ProcessView> = client::get(socket, "/v1/ps").await.unwrap();
    let own = all.iter().find(|p| p.pid == std::process::id()).unwrap();
    assert!(own.label.is_some() && !own.argv.is_empty());
    assert!(all.iter().find(|p| p.pid == 1).unwrap().label.is_none());
    assert_eq!(client::get::<Vec<AgentView>>(socket, "/v1/agents").await.unwrap().len(), 1);
    assert_eq!(client::get::<AgentView>(socket, "/v1/agents/bot").await.unwrap().name, "bot");
    assert_eq!(client::get_text(socket, "/v1/metrics").await.unwrap(), "chaperone_info 1\n");
    let run = |agent: &str| RunRequest { pid: None, agent: agent.to_owned() };
    client::post(socket, "/v1/run", &run("bot")).await.unwrap();
    let (status, message) = refused(client::post(socket, "/v1/run", &run("nobody")).await.unwrap_err());
    assert!(status == 404 && message.contains("registered are: bot"), "{message}");
}

#[tokio::test]
async fn baselines_are_changed_by_root_outside_every_instance() {
    let wanted = RollBack { role: "r".to_owned(), to: Some(1) };
    let ask = async |daemon: &Daemon| {
        client::ask::<Promoted>(&daemon.socket, "/v1/baseline/rollback", &wanted).await
    };
    let inside = Daemon::start_where_callers_are(Some(InstanceId(5)));
    let (status, message) = refused(ask(&inside).await.unwrap_err());
    assert_eq!(status, 403, "{message}");
    let daemon = Daemon::start();
    if !nix::unistd::geteuid().is_root() {
        assert_eq!(refused(ask(&daemon).await.unwrap_err()).0, 403);
        return;
    }
    let done = ask(&daemon).await.unwrap();
    assert_eq!((done.version, done.version_before), (Some(1), Some(2)));
    for path in ["/v1/baseline/forget", "/v1/baseline/promote", "/v1/baseline/import"] {
        let answer = client::ask::<Promoted>(&daemon.socket, path, &wanted).await;
        assert_eq!(refused(answer.unwrap_err()).0, 400, "{path}");
    }
    let answer = client::ask::<Promoted>(&daemon.socket, "/v1/baseline/nothing", &wanted).await;
    assert_eq!(refused(answer.unwrap_err()).0, 404);
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let daemon = Daemon::start();
    let get = async |path| refused(client::get::<serde_json::Value>(&daemon.socket, path).await.unwrap_err());
    assert_eq!(get("/v1/agents/nobody").await, (404, "there is no agent `nobody`".to_owned()));
    assert_eq!(get("/v1/nothing").await.0, 404);
    let (status, message) = get("/v1/events?kind=nett").await;
    assert!(status == 400 && message.contains("net_connect"), "{message}");
    assert_eq!(get("/v1/events?who=me").await.0, 400);
    let delete = daemon.send(b"DELETE /v1/ps HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(delete.starts_with("HTTP/1.1 405"), "{delete}");
}

#[tokio::test]
async fn an_agent_cannot_choose_what_it_is_taken_for() {
    let daemon = Daemon::start_where_callers_are(Some(InstanceId(0x42)));
    let request = RunRequest { pid: Some(1), agent: "bot".to_owned() };
    let (status, message) = refused(client::post(&daemon.socket, "/v1/run", &request).await.unwrap_err());
    assert!(status == 403 && message.contains("i-0000000000000042"), "{status} {message}");
}

#[tokio::test]
async fn rubbish_is_refused_and_the_next_client_is_served() {
    let daemon = Daemon::start();
    let long_header = format!("GET /v1/ps HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(100_000));
    let many_headers = format!("GET /v1/ps HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(2_000));
    let long_body =
        format!("POST /v1/run HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{}", "x".repeat(200_000));
    let wrong_body = "POST /v1/run HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{\"a\":[1]}";
    for (request, answer) in [
        ("\u{0}\u{1}\u{2} rubbish\r\n\r\n".as_bytes(), "HTTP/1.1 400"),
        (b"GET / HTTP/9.9\r\n\r\n", "HTTP/1.1 400"),
        (long_header.as_bytes(), "HTTP/1.1 431"),
        (many_headers.as_bytes(), "HTTP/1.1 431"),
        (long_body.as_bytes(), "HTTP/1.1 413"),
        (wrong_body.as_bytes(), "HTTP/1.1 400"),
    ] {
        let start = &request[..request.len().min(60)];
        let got = daemon.send(request).await;
        // One that is cut off while it is still sending may find the answer gone with the connection.
        assert!(got.starts_with(answer) || got.is_empty(), "{}: {got}", String::from_utf8_lossy(start));
        client::get::<Status>(&daemon.socket, "/v1/status").await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_client_loses_its_place_and_too_many_are_told_so() {
    let daemon = Daemon::start();
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = daemon.raw().await;
        stream.write_all(b"GET /v1/st").await.unwrap();
        slow.push(stream);
    }
    sleep(Duration::from_millis(200)).await;
    let (status, message) = refused(client::get::<Status>(&daemon.socket, "/v1/status").await.unwrap_err());
    assert!(status == 503 && message.contains("too many"), "{message}");
    let begun = Instant::now();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(10), slow[0].read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8));
    sleep(Duration::from_millis(200)).await;
    client::get::<Status>(&daemon.socket, "/v1/status").await.unwrap();
}

#[tokio::test]
async fn followers_get_what_they_asked_for() {
    let daemon = Daemon::start();
    let mut lines = client::follow(&daemon.socket, "/v1/events?kind=net").await.unwrap();
    daemon.offer.send(Event { kind: Kind::PolicyChanged, ..connect() }).await.unwrap();
    daemon.offer.send(connect()).await.unwrap();
    let line = timeout(Duration::from_secs(5), lines.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Event>(&line).unwrap().kind, Kind::NetConnect);
}

#[tokio::test]
async fn a_follower_that_does_not_read_is_cut_off_and_the_others_go_on() {
    let daemon = Daemon::start();
    let mut stuck = client::follow(&daemon.socket, "/v1/events").await.unwrap();
    let mut quick = client::follow(&daemon.socket, "/v1/events").await.unwrap();
    let count = 20_000;
    let counting = tokio::spawn(async move {
        let mut seen = 0;
        while seen < count && quick.next().await.unwrap().is_some() {
            seen += 1;
        }
        seen
    });
    for _ in 0..count {
        daemon.offer.send(connect()).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(timeout(Duration::from_secs(20), counting).await.unwrap().unwrap(), count);
    let mut last = Vec::new();
    while let Some(line) = stuck.next().await.unwrap() {
        last = line;
    }
    let last: Event = serde_json::from_slice(&last).unwrap();
    assert_eq!((last.kind, last.lost.unwrap().follower), (Kind::EventsLost, 1));
}

#[tokio::test]
async fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
    let daemon = Daemon::start();
    let error = server::bind(&daemon.socket, &Access::own_user()).unwrap_err();
    assert!(error.to_string().contains("another daemon"), "{error:#}");
    let dead = daemon.socket.with_file_name("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    server::bind(&dead, &Access::own_user()).unwrap();

    let nobody = daemon.socket.with_file_name("nobody.sock");
    let error = client::get::<Status>(&nobody, "/v1/status").await.unwrap_err();
    assert!(
        matches!(&error, Error::NoDaemon(_)) && error.to_string().contains("chaperone daemon"),
        "{error}"
    );
}
