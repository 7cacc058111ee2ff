//! Two web servers: one that the agent's role names, one that it does not.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

pub const NAMED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
pub const NOT_NAMED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Both servers, on threads of this process.
pub struct Web {
    pub port: u16,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Requests for `/slow` that wait for `release`.
    waiting: AtomicUsize,
    released: AtomicBool,
    /// Connections that reached the server that the role does not name.
    at_not_named: AtomicUsize,
}

impl Web {
    /// Listens at both addresses on the same port, the first that is free.
    pub fn serve() -> Result<Self> {
        let bind = |port: &u16| {
            let both = (TcpListener::bind((NAMED, *port)), TcpListener::bind((NOT_NAMED, *port)));
            if let (Ok(named), Ok(not_named)) = both { Some((*port, named, not_named)) } else { None }
        };
        let (port, named, not_named) = PORTS
            .collect::<Vec<u16>>()
            .iter()
            .find_map(bind)
            .with_context(|| format!("no port of {PORTS:?} is free at {NAMED} and {NOT_NAMED}"))?;
        let seen = Arc::new(Seen::default());
        listen(named, Arc::clone(&seen), |seen, stream| answer(seen, stream, super::NAMED_SAYS));
        listen(not_named, Arc::clone(&seen), |seen, stream| {
            seen.at_not_named.fetch_add(1, Ordering::SeqCst);
            answer(seen, stream, super::NOT_NAMED_SAYS);
        });
        Ok(Self { port, seen })
    }

    /// How many requests for `/slow` wait.
    pub fn waiting(&self) -> usize {
        self.seen.waiting.load(Ordering::SeqCst)
    }

    /// Answers them, and all that come later, at once.
    pub fn release(&self) {
        self.seen.released.store(true, Ordering::SeqCst);
    }

    /// How many connections came to the server that the role does not name.
    pub fn at_not_named(&self) -> usize {
        self.seen.at_not_named.load(Ordering::SeqCst)
    }
}

fn listen(listener: TcpListener, seen: Arc<Seen>, each: fn(&Seen, TcpStream)) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            thread::spawn(move || each(&seen, stream));
        }
    });
}

fn answer(seen: &Seen, mut stream: TcpStream, text: &str) {
    let mut request = String::new();
    let mut reader = BufReader::new(&stream);
    if reader.read_line(&mut request).is_err() {
        return;
    }
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
        line.clear();
    }
    let mut body = format!("the report, from {text}\n");
    if request.starts_with("GET /slow ") {
        seen.waiting.fetch_add(1, Ordering::SeqCst);
        let end = Instant::now() + SLOW_MAX;
        while !seen.released.load(Ordering::SeqCst) && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        seen.waiting.fetch_sub(1, Ordering::SeqCst);
        body = "the slow report, at last\n".to_owned();
    }
    // A client that has gone away is no news.
    let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
}

const PORTS: std::ops::Range<u16> = 8080..8100;
const SLOW_MAX: Duration = Duration::from_secs(60);
