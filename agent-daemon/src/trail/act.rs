//! What is told of a single act: whether it was refused, whether it names a key, and when it is the same as another.

use std::fmt::Write as _;

use agent_common::verdict::Verdict;

use crate::event::Event;

/// Whether the act was refused, held or alerted, or would be in enforce mode.
#[must_use]
pub fn refused(event: &Event) -> bool {
    event.verdict.is_some_and(|verdict| verdict.known() != Some(Verdict::Allow))
}

/// What an act of an image has in common with one that repeats it.
pub(super) fn same(event: &Event) -> String {
    let mut text = event.verdict.map(|v| v.name()).unwrap_or_default().to_owned();
    if let Some(n) = &event.network {
        let _ = write!(
            text,
            " {:?} {:?} {:?} {:?} {} {:?}",
            n.address, n.port, n.name, n.protocol, n.kind, n.cid
        );
    }
    if let Some(unix) = &event.unix {
        let peer = unix.peer.as_ref().and_then(|peer| peer.exec_id);
        let _ = write!(text, " {} {peer:?}", unix.path);
    }
    if let Some(dns) = &event.dns {
        let _ = write!(text, " {} {:?} {:?} {:?}", dns.name, dns.kind, dns.resolver, dns.code);
    }
    if let Some(spoken) = &event.spoken {
        let _ = write!(text, " {} {:?} {:?}", spoken.finding, event.tls, event.http);
    }
    if let Some(channel) = &event.channel {
        let _ = write!(text, " {}", channel.domain);
    }
    if let Some(decision) = &event.decision {
        let rule = decision.rule.as_ref().map(|rule| (rule.index, &rule.text));
        let _ = write!(text, " {} {rule:?}", decision.source);
    }
    text
}

/// Whether an argument names a file that usually holds keys or passwords.
pub(super) fn names_a_key(arg: &str) -> bool {
    KEYS.iter().any(|part| arg.contains(part)) && !arg.ends_with(".pub")
}

/// Parts of paths of files that usually hold keys or passwords.
const KEYS: &[&str] = &[
    "/.ssh/id_",
    "/.aws/credentials",
    "/.netrc",
    "/.git-credentials",
    "/.kube/config",
    "/.docker/config.json",
    "/.config/gcloud/",
    "/.config/gh/hosts.yml",
    "/.gnupg/",
    "/.azure/",
    "/.npmrc",
    "/.pypirc",
    "/.pgpass",
    "/etc/shadow",
    "/etc/sudoers",
    "/etc/ssl/private/",
    "/.env",
    "/secrets/kubernetes.io/",
    "/environ",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_keys_are_named_and_what_is_public_is_none() {
        for (arg, key) in [
            ("/home/dev/.ssh/id_ed25519", true),
            ("cat ~/.aws/credentials", true),
            ("/home/dev/.ssh/id_ed25519.pub", false),
            ("/srv/work/README.md", false),
        ] {
            assert_eq!(names_a_key(arg), key, "{arg}");
        }
    }
}
