//! Tables: arguments with a secret and what is left of them, and harmless ones that stay as they are.
//! Every secret here is invented.

use super::*;

fn masked(argv: &[&str]) -> Vec<String> {
    let mut argv: Vec<Box<str>> = argv.iter().map(|arg| (*arg).into()).collect();
    Masks::default().mask(&mut argv, false);
    argv.into_iter().map(String::from).collect()
}

#[test]
fn secrets_are_replaced_and_the_rest_is_kept() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P";
    let table: &[(&[&str], &[&str])] = &[
        (&["x", "--password", "hunter2"], &["x", "--password", "***"]),
        (&["x", "--token=abc123"], &["x", "--token=***"]),
        (&["x", "--client-secret=a b c"], &["x", "--client-secret=***"]),
        (&["x", "--api-key", "0123"], &["x", "--api-key", "***"]),
        (&["x", "-token", "0123"], &["x", "-token", "***"]),
        (&["mysql", "-uroot", "-phunter2", "shop"], &["mysql", "-uroot", "-p***", "shop"]),
        (&["/usr/bin/sshpass", "-p", "hunter2", "ssh", "h"], &["/usr/bin/sshpass", "-p", "***", "ssh", "h"]),
        (&["redis-cli", "-a", "hunter2"], &["redis-cli", "-a", "***"]),
        (&["curl", "-u", "me:hunter2", "https://h/"], &["curl", "-u", "me:***", "https://h/"]),
        (&["curl", "-H", "Authorization: Bearer abcdef012345"], &["curl", "-H", "Authorization: Bearer ***"]),
        (&["curl", "-H", "authorization: Basic dTpw"], &["curl", "-H", "authorization: Basic ***"]),
        (&["curl", "-H", "X-Api-Key: 12345"], &["curl", "-H", "X-Api-Key: ***"]),
        (&["curl", "-H", "PRIVATE-TOKEN: 12345"], &["curl", "-H", "PRIVATE-TOKEN: ***"]),
        (
            &["git", "clone", "https://me:hunter2@h.example/r.git"],
            &["git", "clone", "https://me:***@h.example/r.git"],
        ),
        (&["psql", "postgres://u:p%40ss@db:5432/x"], &["psql", "postgres://u:***@db:5432/x"]),
        (&["env", "DB_PASSWORD=hunter2", "make"], &["env", "DB_PASSWORD=***", "make"]),
        (&["env", "AWS_SECRET_ACCESS_KEY=abc/def+1"], &["env", "AWS_SECRET_ACCESS_KEY=***"]),
        (&["env", "OPENAI_API_KEY=abc"], &["env", "OPENAI_API_KEY=***"]),
        (&["env", "PGPASSWORD=abc"], &["env", "PGPASSWORD=***"]),
        (&["env", "MYSQL_PWD=abc"], &["env", "MYSQL_PWD=***"]),
        (&["x", "sk-abcdefghijklmnop0123"], &["x", "***"]),
        (&["x", "sk-ant-api03-abcDEF0123456789"], &["x", "***"]),
        (&["x", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"], &["x", "***"]),
        (&["x", "github_pat_11ABCDEFG0abcdefghijkl"], &["x", "***"]),
        (&["x", "xoxb-123456789012-abcdefghijkl"], &["x", "***"]),
        (&["x", "AKIAABCDEFGHIJKLMNOP"], &["x", "***"]),
        (&["x", jwt], &["x", "***"]),
        (
            &["x", "a -----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY----- b"],
            &["x", "a *** b"],
        ),
        (&["x", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn"], &["x", "***"]),
        (&["curl", "https://h/?token=abc123&page=2"], &["curl", "https://h/?token=***&page=2"]),
        (
            &["curl", "-d", r#"{"password":"hunter2","user":"me"}"#],
            &["curl", "-d", r#"{"password":"***","user":"me"}"#],
        ),
        (&["sh", "-c", "TOKEN=abc curl h"], &["sh", "-c", "TOKEN=*** curl h"]),
        (&["sh", "-c", "TOKEN=\"a b\" curl h"], &["sh", "-c", "TOKEN=\"***\" curl h"]),
        (&["sh", "-c", "cd /x && mysql -phunter2 shop; ls"], &["sh", "-c", "cd /x && mysql -p*** shop; ls"]),
        (&["sh", "-c", "vault login --token abc123"], &["sh", "-c", "vault login --token ***"]),
        (&["bash", "-lc", "curl -u me:hunter2 h"], &["bash", "-lc", "curl -u me:*** h"]),
        (&["openssl", "enc", "-pass", "pass:hunter2"], &["openssl", "enc", "-pass", "***"]),
    ];
    for (argv, expected) in table {
        assert_eq!(masked(argv), *expected, "{argv:?}");
    }
}

#[test]
fn harmless_arguments_stay() {
    let table: &[&[&str]] = &[
        &["git", "show", "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"],
        &["x", "550e8400-e29b-41d4-a716-446655440000"],
        &["cat", "/run/secrets/db_password", "/etc/ssl/private/key.pem"],
        &["x", "--max-tokens=4096", "--tokenizer", "gpt2"],
        &["x", "--token-file=/run/token", "--password-file", "/run/pw"],
        &["docker", "login", "--password-stdin", "registry.example"],
        &["env", "PWD=/home/me", "OLDPWD=/", "KEYBOARD=us", "MONKEY=1"],
        &["pip", "install", "sk-learn-contrib-extension", "keyring", "tokenizers"],
        &["ssh", "-i", "/home/me/.ssh/id_ed25519", "git@h.example"],
        &["git", "clone", "ssh://git@h.example:22/r.git", "https://h.example/a:b@c"],
        &["mkdir", "-p", "/srv/a"],
        &["mysql", "-p", "shop"],
        &["cargo", "test", "-p", "agent-daemon", "--", "token"],
        &["sh", "-c", "for f in *; do echo \"$f\"; done"],
        &["x", "--token=$TOKEN", "--password", "$PW"],
        &["kubectl", "get", "secret", "db", "-o", "yaml"],
        &["git", "commit", "-m", "auth: refresh the token earlier, see the key table"],
        &["sha256sum", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        &["curl", "-u", "me", "https://h/"],
        &["ls", "--password", "--all"],
    ];
    for argv in table {
        assert_eq!(masked(argv), *argv);
    }
}

#[test]
fn a_secret_that_was_cut_is_still_one() {
    let mut argv = ["x".into(), "ghp_abcde".into()];
    assert_eq!(Masks::default().mask(&mut argv, true), 1);
    assert_eq!(&*argv[1], "***");
    let mut argv = ["x".into(), "--token=ab".into()];
    assert_eq!(Masks::default().mask(&mut argv, true), 1);
    let mut argv = ["x".into(), "/usr/share/doc/readm".into()];
    assert_eq!(Masks::default().mask(&mut argv, true), 0);
}

#[test]
fn masking_twice_changes_nothing_more() {
    let mut argv: Vec<Box<str>> =
        vec!["curl".into(), "-H".into(), "Authorization: Bearer abcdef012345".into()];
    assert_eq!(Masks::default().mask(&mut argv, false), 1);
    let once = argv.clone();
    Masks::default().mask(&mut argv, false);
    assert_eq!(argv, once);
}

#[test]
fn configured_words_are_masked_too() {
    let masks = Masks::with_words(&["Kundennummer".to_owned()]);
    let mut argv: Vec<Box<str>> = ["x", "--kundennummer=4711", "KUNDENNUMMER=4711"].map(Into::into).to_vec();
    assert_eq!(masks.mask(&mut argv, false), 2);
    assert_eq!(
        argv.iter().map(|a| &**a).collect::<Vec<_>>(),
        ["x", "--kundennummer=***", "KUNDENNUMMER=***"]
    );
}
