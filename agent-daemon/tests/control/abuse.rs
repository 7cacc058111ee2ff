//! Clients that send too much, too slowly, too many at once, or without the right to: each is told, and nobody else
//! notices.

use std::{
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream as Blocking},
};

use super::*;
use chaperone::control::server::GUESTS_MAX;

/// A user and group that are nobody's.
const NOBODY: u32 = 65_534;

impl Daemon {
    /// With a socket that everybody can reach, so that the server alone decides.
    fn for_everybody(access: Access) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/control.sock");
        let listener = server::bind(&socket, &access).unwrap();
        let open =
            |path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        open(dir.path(), 0o755);
        open(socket.as_path(), 0o666);
        let (commands_in, commands) = mpsc::channel(64);
        let (offer, offered) = mpsc::channel(64);
        tokio::spawn(server::serve(listener, access, Masks::default(), commands_in));
        tokio::spawn(pipeline(commands, offered, None));
        Self { socket, offer, _dir: dir }
    }

    /// What a thread of its own does as nobody; as ourselves where we are not root.
    async fn as_nobody<T: Send + 'static>(&self, act: impl FnOnce(PathBuf) -> T + Send + 'static) -> T {
        let socket = self.socket.clone();
        let thread = std::thread::spawn(move || {
            if nix::unistd::geteuid().is_root() {
                let (none, no) = (std::ptr::null::<u32>(), NOBODY);
                // SAFETY: plain numbers and an empty list; the call itself, unlike libc's, changes this thread alone.
                let done = unsafe {
                    nix::libc::syscall(nix::libc::SYS_setgroups, 0, none) == 0
                        && nix::libc::syscall(nix::libc::SYS_setresgid, no, no, no) == 0
                        && nix::libc::syscall(nix::libc::SYS_setresuid, no, no, no) == 0
                };
                assert!(done, "become nobody");
            }
            act(socket)
        });
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_without_the_right_is_told_who_has_it() {
    let daemon = Daemon::for_everybody(Access::of(None).unwrap());
    let answer = daemon.as_nobody(|socket| {
        let mut stream = Blocking::connect(socket).unwrap();
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("only root may use"), "{answer}");
    assert!(answer.contains("control_group in chaperone.yaml admits a group") && !answer.contains("lsm"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_take_no_place_of_roots() {
    let daemon = Daemon::for_everybody(Access::of(Some(&NOBODY.to_string())).unwrap());
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most.min(8192), most).unwrap();
    let held = daemon.as_nobody(|socket| {
        let streams = (0..1000).map(|_| {
            let mut stream = Blocking::connect(&socket).unwrap();
            let _ = stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n");
            stream
        });
        streams.collect::<Vec<_>>()
    });
    let held = held.await;
    // Root is served while they are there.
    let begun = Instant::now();
    client::get::<Status>(&daemon.socket, "/v1/status").await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    // Those who found a place follow; the others were told, or cut off.
    let answers = tokio::task::spawn_blocking(move || {
        let first_line = |mut stream: Blocking| {
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let mut start = [0; 12];
            stream.read_exact(&mut start).map(|()| String::from_utf8_lossy(&start).into_owned())
        };
        held.into_iter().map(first_line).filter_map(Result::ok).collect::<Vec<_>>()
    });
    let answers = answers.await.unwrap();
    let of = |status: &str| answers.iter().filter(|answer| answer.ends_with(status)).count();
    assert_eq!((of("200"), of("200") + of("503")), (GUESTS_MAX, answers.len()), "{answers:?}");
}

#[tokio::test]
async fn a_hundred_megabytes_are_not_taken_in() {
    let daemon = Daemon::start();
    let part = vec![b'x'; 64 << 10];
    for head in ["content-length: 104857600\r\n\r\n", "transfer-encoding: chunked\r\n\r\n"] {
        let mut stream = daemon.raw().await;
        stream.write_all(format!("POST /v1/run HTTP/1.1\r\nhost: x\r\n{head}").as_bytes()).await.unwrap();
        let mut sent = 0;
        while sent < 100 << 20 {
            let chunk = if head.starts_with("transfer") {
                [b"10000\r\n", part.as_slice(), b"\r\n"].concat()
            } else {
                part.clone()
            };
            match timeout(Duration::from_secs(8), stream.write_all(&chunk)).await {
                Ok(Ok(())) => sent += part.len(),
                _ => break,
            }
        }
        assert!(sent < 4 << 20, "{sent} bytes were taken in");
        client::get::<Status>(&daemon.socket, "/v1/status").await.unwrap();
    }
}

#[tokio::test]
async fn one_byte_a_second_comes_to_an_end() {
    let daemon = Daemon::start();
    let head = "POST /v1/run HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n".as_bytes();
    let drip = async |at_once: &[u8], answer: &str| {
        let mut stream = daemon.raw().await;
        stream.write_all(at_once).await.unwrap();
        let begun = Instant::now();
        let mut got = Vec::new();
        loop {
            if stream.write_all(b"x").await.is_err() {
                break;
            }
            match timeout(Duration::from_secs(1), stream.read_to_end(&mut got)).await {
                Ok(_) => break,
                Err(_) => assert!(begun.elapsed() < Duration::from_secs(12), "{answer} did not come"),
            }
        }
        let got = String::from_utf8_lossy(&got).into_owned();
        assert!(got.starts_with(answer) || got.is_empty(), "{got}");
    };
    tokio::join!(drip(b"GET /v1/st", ""), drip(head, "HTTP/1.1 408"));
    client::get::<Status>(&daemon.socket, "/v1/status").await.unwrap();
}

#[tokio::test]
async fn any_bytes_are_answered_or_cut_off() {
    let daemon = Daemon::start();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let good = b"POST /v1/run HTTP/1.1\r\nhost: x\r\ncontent-length: 15\r\n\r\n{\"agent\":\"bot\"}";
    for round in 0..300 {
        let mut bytes = good.to_vec();
        if round % 3 == 0 {
            bytes = (0..next() % 400).map(|_| next() as u8).collect();
        }
        for _ in 0..next() % 5 {
            if !bytes.is_empty() {
                let at = (next() % bytes.len() as u64) as usize;
                bytes[at] = next() as u8;
            }
        }
        // Whoever asks half a question and leaves must not be waited for.
        let mut stream = daemon.raw().await;
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(8), stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{answer}");
    }
    client::get::<Status>(&daemon.socket, "/v1/status").await.unwrap();
}
