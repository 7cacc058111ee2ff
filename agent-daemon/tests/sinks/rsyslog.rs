//! Debian's rsyslog, by TCP and by TLS.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    KILLS, Peer, Place, certificates, counts, debian, free_port, steps_back, survives, text, wait_for_all,
};

/// Starts it with the settings of its TLS driver, none of them for plain TCP; it takes datagrams at the same port.
fn rsyslog(place: &Place, tls: &str) -> Option<Peer> {
    debian("rsyslogd")?;
    let port = free_port();
    let configuration = place.path("rsyslog.conf");
    let dir = place.dir.path().display();
    let driver = if tls.is_empty() {
        ""
    } else {
        " StreamDriver.Name=\"ossl\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\""
    };
    let text = format!(
        "global(workDirectory=\"{dir}\" maxMessageSize=\"64k\"{tls})\nmodule(load=\"imudp\")\nmodule(load=\"imtcp\"{driver})\n\
         template(name=\"whole\" type=\"string\" string=\"%timestamp:::date-rfc3339% %hostname% %app-name% %msgid% %structured-data% %msg%\\n\")\n\
         input(type=\"imudp\" port=\"{port}\" address=\"127.0.0.1\")\ninput(type=\"imtcp\" port=\"{port}\")\n\
         *.* action(type=\"omfile\" file=\"{dir}/kept\" template=\"whole\" asyncWriting=\"off\" flushOnTXEnd=\"on\")\n"
    );
    fs::write(&configuration, text).unwrap();
    let (modules, pid) = (modules(), place.path("rsyslog.pid"));
    Some(Peer::start(port, move || {
        let mut command = debian("rsyslogd").unwrap();
        // What a killed one has left.
        let _ = fs::remove_file(&pid);
        command.args(["-n", "-f"]).arg(&configuration).arg("-i").arg(&pid).arg("-M").arg(&modules);
        command
    }))
}

fn modules() -> PathBuf {
    let peers = std::env::var_os("CHAPERONE_PEERS").unwrap_or_default();
    Path::new(&peers).join("usr/lib/x86_64-linux-gnu/rsyslog")
}

#[test]
fn a_real_rsyslog_that_is_killed_gets_all_that_it_missed() {
    let place = Place::new();
    let Some(mut peer) = rsyslog(&place, "") else { return };
    let stats = place.start(&format!("syslog+tcp://127.0.0.1:{}", peer.port), |_| {});
    survives(&place, &mut peer, &stats, || counts(&text(&place.path("kept"))));
    // Its own reading of the parts of RFC 5424.
    let kept = text(&place.path("kept"));
    let first = kept.lines().next().unwrap();
    assert!(first.starts_with("2026-01-31T12:00:00"), "{first}");
    assert!(first.contains(" h chaperone net_connect [chaperone@32473 seq=\"1\"] "), "{first}");
    assert!(steps_back(&kept) <= KILLS, "records came again where nothing was broken");
}

/// What a dead one is sent is lost, which UDP tells nobody; what a running one is sent is there, and a record that is longer
/// than a datagram with its beginning.
#[test]
fn by_udp_a_real_rsyslog_gets_what_it_is_sent_while_it_runs() {
    let place = Place::new();
    let Some(peer) = rsyslog(&place, "") else { return };
    let stats = place.start(&format!("syslog+udp://127.0.0.1:{}", peer.port), |_| {});
    let long = format!(
        "{{\"time\":\"2026-01-31T12:00:00.000000001Z\",\"seq\":1,\"kind\":\"process_exec\",\"host\":\"h\",\"exe\":\"{}\"}}\n",
        "x".repeat(70_000)
    );
    fs::write(place.path("events.ndjson"), long).unwrap();
    place.write(2, 200, Duration::from_millis(200));
    wait_for_all(200, || counts(&text(&place.path("kept"))), &stats);
    let kept = text(&place.path("kept"));
    let first = kept.lines().next().unwrap();
    assert!(first.contains("seq=\"1\"") && first.len() > 60_000 && !first.contains("\"}"), "{}", first.len());
    assert_eq!((kept.lines().count(), steps_back(&kept)), (200, 0));
}

#[test]
fn by_tls_too_and_records_come_again_only_behind_a_broken_connection() {
    if !modules().join("lmnsd_ossl.so").exists() {
        println!("passed over: no TLS of rsyslog's (CHAPERONE_PEERS)");
        return;
    }
    let place = Place::new();
    let (authority, signed) = certificates::by_an_authority(&place, "rsyslog");
    let files = [("CA", &authority), ("Cert", &signed), ("Key", &certificates::key(&signed))];
    let files: String = files
        .iter()
        .map(|(name, path)| format!(" defaultNetstreamDriver{name}File=\"{}\"", path.display()))
        .collect();
    let tls = format!(" defaultNetstreamDriver=\"ossl\"{files}");
    let Some(mut peer) = rsyslog(&place, &tls) else { return };
    let stats = place.start(&format!("syslog+tls://127.0.0.1:{}", peer.port), |sink| {
        sink.ca = Some(authority.clone());
    });
    survives(&place, &mut peer, &stats, || counts(&text(&place.path("kept"))));
    assert!(steps_back(&text(&place.path("kept"))) <= KILLS, "records came again where nothing was broken");
}
