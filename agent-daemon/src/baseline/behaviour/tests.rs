//! Every behaviour comes back from its text; paths are generalised as the table says.

use super::*;

fn texts() -> Vec<&'static str> {
    vec![
        "exec outside -> /usr/bin/node[/opt/a%20b/run]",
        "exec ? -> /bin/sh",
        "exec /tmp/*/x -> /usr/lib/python*/y",
        "connect /usr/bin/node[/opt/a/run] -> api.example.com:443/tcp",
        "connect /usr/bin/node -> *.example.com:443/tcp",
        "connect /usr/bin/node -> 192.0.2.0/24:443/tcp",
        "connect /usr/bin/node -> 192.0.2.7:-/icmp",
        "connect /usr/bin/node -> [2001:db8::1]:443/udp",
        "connect /usr/bin/node -> [2001:db8::/64]:443/udp",
        "connect /usr/bin/node -> 127.0.0.1:ephemeral/tcp",
        "name /usr/bin/node -> collector.example.net",
        "unix /usr/bin/node -> /run/docker.sock",
        "unix /usr/bin/node -> %_",
        "socket /usr/bin/ping -> raw%20icmp",
        "listen /usr/bin/node -> 0.0.0.0:8080/tcp",
        "listen /usr/bin/node -> [::1]:ephemeral/udp",
        "user 1000",
        "depth 8",
        "fan_out 16",
        "execs_per_minute 32",
        "endpoints_per_minute 64",
    ]
}

#[test]
fn every_text_is_its_behaviour_and_the_order_is_of_behaviours() {
    let all: Vec<Behaviour> = texts().iter().map(|text| text.parse().unwrap()).collect();
    for (behaviour, text) in all.iter().zip(texts()) {
        assert_eq!(behaviour.to_string(), text);
        assert_eq!(serde_json::to_string(behaviour).unwrap(), format!("\"{text}\""));
    }
    for (index, (sort, _)) in Sort::ALL.iter().enumerate() {
        assert_eq!(*sort as usize, index);
        assert!(all.iter().any(|behaviour| behaviour.sort() == *sort), "{sort:?}");
    }
}

#[test]
fn what_is_no_behaviour_is_told() {
    for bad in [
        "",
        "exec",
        "exec /a",
        "exec /a -> ",
        "fly /a -> /b",
        "user x",
        "connect /a -> b",
        "connect /a -> b:1",
    ] {
        assert!(bad.parse::<Behaviour>().is_err(), "{bad}");
    }
}

#[test]
fn strange_paths_come_back_too() {
    for path in [
        "/a b",
        "/a -> b",
        "/x[y]",
        "/tab\there",
        "outside",
        "?",
        "/100%",
        "/*",
        "/ä ö",
        "/nl\n",
        "",
        "/\u{a0}",
    ] {
        let exe = path::generalise(path);
        for behaviour in [
            Behaviour::Exec {
                by: Program::File { exe: exe.clone(), script: Some(exe.clone()) },
                child: Program::File { exe: exe.clone(), script: None },
            },
            Behaviour::Unix { by: Program::Unknown, path: exe },
        ] {
            assert_eq!(behaviour.to_string().parse(), Ok(behaviour.clone()), "{behaviour}");
        }
    }
}

#[test]
fn what_differs_from_run_to_run_is_generalised_and_nothing_else() {
    for (path, general) in [
        ("/usr/bin/git", "/usr/bin/git"),
        ("/usr/bin/python3.11", "/usr/bin/python3.11"),
        ("/usr/lib/python3.11/site-packages/x.py", "/usr/lib/python*/site-packages/x.py"),
        ("/opt/node-v20.11.1-linux-x64/bin/node", "/opt/node-v*-linux-x64/bin/node"),
        ("/home/a/.nvm/versions/node/v20.1.0/bin/node", "/home/a/.nvm/versions/node/v*/bin/node"),
        ("/tmp/tmp8f3k2/run.sh", "/tmp/*/run.sh"),
        ("/tmp/npm.XyZabC/a.js", "/tmp/*/a.js"),
        ("/tmp/build/a.js", "/tmp/build/a.js"),
        ("/var/tmp/x1", "/var/tmp/*"),
        ("/dev/shm/a7", "/dev/shm/*"),
        ("/dev/pts/3", "/dev/pts/*"),
        ("/proc/self/fd/7", "/proc/*/fd/*"),
        ("/proc/4711/exe", "/proc/*/exe"),
        ("/srv/3f2504e0-4f89-11d3-9a0c-0305e82c3301/x", "/srv/*/x"),
        ("/cache/0123456789abcdef/x", "/cache/*/x"),
        ("/cache/deadbeefdeadbeef/facade", "/cache/*/facade"),
        ("/usr/bin/facade", "/usr/bin/facade"),
        ("/srv/2026/report", "/srv/*/report"),
        ("/home/tmp/x1", "/home/tmp/x1"),
        ("/a*b/50%", "/a%2Ab/50%25"),
        ("/usr/bin/x86_64-linux-gnu-gcc-12", "/usr/bin/x86_64-linux-gnu-gcc-12"),
        ("", ""),
    ] {
        assert_eq!(&*path::generalise(path), general, "{path}");
    }
}

#[test]
fn hosts_fold_into_their_domain_or_network_and_no_wider() {
    let folds = |host: &str| -> Vec<String> {
        host.parse::<Host>().unwrap().folds().iter().map(ToString::to_string).collect()
    };
    assert_eq!(folds("a.b.example.co.uk"), ["*.example.co.uk"]);
    assert_eq!(folds("a.x.github.io"), ["*.x.github.io"]);
    assert_eq!(folds("example.com"), Vec::<String>::new());
    assert_eq!(folds("co.uk"), Vec::<String>::new());
    assert_eq!(folds("198.51.100.7"), ["198.51.100.0/24", "198.51.0.0/16"]);
    assert_eq!(folds("198.51.100.0/24"), ["198.51.0.0/16"]);
    assert_eq!(folds("198.51.0.0/16"), Vec::<String>::new());
    assert_eq!(folds("[2001:db8:1:2::3]"), ["[2001:db8:1:2::/64]", "[2001:db8:1::/48]"]);
}
