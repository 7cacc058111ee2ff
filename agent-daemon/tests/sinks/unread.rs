//! Syslog to a receiver that takes the connection and reads nothing, as a stuck one or a dead network does.

use std::{
    collections::BTreeSet,
    io::Read as _,
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::atomic::Ordering,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use chaperone::record::sinks::tail::seq_of;
use nix::sys::socket::{setsockopt, sockopt};

use super::Place;

const LAST: u64 = 4_000;

/// The numbers of what lies at the beginning of the text, of whole messages alone.
fn seqs(text: &str) -> BTreeSet<u64> {
    let bodies = text.split("\u{feff}").skip(1).filter(|body| body.contains("\"}"));
    bodies.filter_map(|body| seq_of(body.as_bytes())).collect()
}

#[test]
fn what_was_only_sent_is_not_believed_and_comes_again() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // A small window, taken on by what is accepted: the rest stays in the sender's queue, which has room for all.
    setsockopt(&listener, sockopt::RcvBuf, &(64 << 10)).unwrap();
    let address = listener.local_addr().unwrap();
    let stats = place.start(&format!("syslog+tcp://{address}"), |_| {});
    let (silent, _) = listener.accept().unwrap();
    drop(listener);
    place.write(1, LAST, Duration::ZERO);
    // Longer than a connection has to stand.
    thread::sleep(Duration::from_secs(6));
    let stats = &stats["one"];
    let believed = stats.acknowledged.load(Ordering::Relaxed);
    assert!(stats.sent.load(Ordering::Relaxed) > believed + 1_000, "{stats:?}");
    let mut there = vec![0; 8 << 20];
    let peeked = nix::sys::socket::recv(
        silent.as_raw_fd(),
        &mut there,
        nix::sys::socket::MsgFlags::MSG_PEEK | nix::sys::socket::MsgFlags::MSG_DONTWAIT,
    );
    let there = seqs(&String::from_utf8_lossy(&there[..peeked.unwrap()]));
    assert!((1..=believed).all(|seq| there.contains(&seq)), "{believed} believed of {there:?}");
    // Killed, with all that it had not read.
    drop(silent);
    let listener = TcpListener::bind(address).unwrap();
    let (says, read) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let says = says.clone();
            thread::spawn(move || drain(stream, &says));
        }
    });
    let (mut text, end) = (Vec::new(), Instant::now() + Duration::from_secs(60));
    while stats.acknowledged.load(Ordering::Relaxed) < LAST {
        assert!(Instant::now() < end, "{stats:?}");
        text.extend(read.recv_timeout(Duration::from_millis(200)).unwrap_or_default());
    }
    text.extend(read.try_iter().flatten());
    let again = seqs(&String::from_utf8_lossy(&text));
    println!("{believed} of {LAST} believed, {} in its kernel, {} came again", there.len(), again.len());
    assert!(again.iter().copied().eq(believed + 1..=LAST), "{:?}", again.first());
    assert_eq!(stats.missed.load(Ordering::Relaxed), 0);
}

fn drain(mut stream: TcpStream, says: &mpsc::Sender<Vec<u8>>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read) = stream.read(&mut bytes) {
        if read == 0 || says.send(bytes[..read].to_vec()).is_err() {
            return;
        }
    }
}
