//! Who may use the control socket: root, and the members of the configured group, as the kernel vouches for them.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use nix::{
    libc,
    unistd::{Gid, Group},
};
use tokio::net::UnixStream;

/// Who may connect.
#[derive(Clone, Debug, Default)]
pub struct Access {
    group: Option<Gid>,
    /// Beside root; the user that runs a test.
    user: Option<u32>,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub pid: Option<u32>,
    pub uid: u32,
}

impl Access {
    /// Root, and the group with this name or number.
    pub fn of(group: Option<&str>) -> Result<Self> {
        let Some(name) = group else { return Ok(Self::default()) };
        let gid = match name.parse() {
            Ok(number) => Gid::from_raw(number),
            Err(_) => {
                let group = Group::from_name(name).with_context(|| format!("look up the group `{name}`"))?;
                group
                    .with_context(|| format!("control_group: there is no group `{name}` (groupadd {name})"))?
                    .gid
            }
        };
        Ok(Self { group: Some(gid), user: None })
    }

    /// The user that runs this process, too: for a server that root did not start.
    #[must_use]
    pub fn own_user() -> Self {
        Self { group: None, user: Some(nix::unistd::geteuid().as_raw()) }
    }

    pub(super) fn group(&self) -> Option<u32> {
        self.group.map(Gid::as_raw)
    }

    /// The peer, if it may ask at all; otherwise what to tell it.
    pub(super) fn admit(&self, stream: &UnixStream) -> Result<Peer, String> {
        let cred =
            stream.peer_cred().map_err(|error| format!("the kernel does not say who you are: {error}"))?;
        let peer = Peer { pid: cred.pid().and_then(|pid| u32::try_from(pid).ok()), uid: cred.uid() };
        let by_group = |gid: Gid| cred.gid() == gid.as_raw() || peer_groups(stream).contains(&gid.as_raw());
        if peer.uid == 0 || self.user == Some(peer.uid) || self.group.is_some_and(by_group) {
            return Ok(peer);
        }
        Err(match self.group {
            Some(gid) => format!("only root and members of group {gid} may use the control socket"),
            None => "only root may use the control socket (control_group in chaperone.yaml admits a group)"
                .to_owned(),
        })
    }
}

/// Supplementary groups of the peer when it connected (SO_PEERGROUPS, since 4.13).
fn peer_groups(stream: &UnixStream) -> Vec<u32> {
    let mut groups = vec![0_u32; GROUPS_MAX];
    let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or_default();
    // SAFETY: the pointer and the length describe `groups`, which the kernel fills and whose used length it returns.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    groups.truncate(if result == 0 { bytes as usize / size_of::<u32>() } else { 0 });
    groups
}

const SO_PEERGROUPS: i32 = 59;
/// More groups than anybody is in; a peer that is in more is refused rather than looked up in part.
const GROUPS_MAX: usize = 4096;
