//! Traffic that the kernel makes on a process's behalf: answers, group joins, network file systems.

use std::{
    ffi::{CStr, CString},
    fs,
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener},
    os::{fd::AsRawFd, unix::net::UnixStream},
    process, ptr, thread,
    time::{Duration, Instant},
};

use crate::act::{
    ctx::{Ctx, Dest, MULTICAST_V4},
    sys::{self, Addr, Outcome, Refused, Sent},
    ways::{
        Family::{Inet, Other},
        Seen, Way, way,
    },
};

pub const WAYS: &[Way] = &[
    way("inbound-tcp4", Inet, Dest::V4, inbound),
    way("transparent-bind", Inet, Dest::V4, transparent).root(),
    way("igmp-join", Inet, Dest::Multicast4, igmp_join).seen(Seen::Maybe),
    way("l2tp-pppox", Other, Dest::V4, l2tp).root().module("l2tp_ppp"),
    way("mount-9p", Other, Dest::V4, |ctx| mount(ctx, &NINE_P)).root().module("9pnet_fd").seen(Seen::Packet),
    way("mount-nfs", Other, Dest::V4, |ctx| mount(ctx, &NFS)).root().module("nfsv4").seen(Seen::Packet),
    way("mount-cifs", Other, Dest::V4, |ctx| mount(ctx, &CIFS)).root().module("cifs").seen(Seen::Packet),
];

/// The outsider dials in, and the token goes back as the answer: nothing here named a destination.
fn inbound(ctx: &Ctx) -> Outcome {
    let told = |step: &'static str| move |error: std::io::Error| Refused::io(step, &error);
    let listener = TcpListener::bind(SocketAddrV4::new(*ctx.v4()?.ip(), 0)).map_err(told("bind"))?;
    let at = listener.local_addr().map_err(told("bind"))?;
    let mut outsider = UnixStream::connect(ctx.site.unix("lend")).map_err(told("lender"))?;
    outsider.write_all(format!("dial {at}\n").as_bytes()).map_err(told("lender"))?;
    if !sys::wait_for(&listener, libc::POLLIN, 3000)? {
        return Err(Refused::new("accept", libc::ETIMEDOUT));
    }
    let (peer, _) = listener.accept().map_err(told("accept"))?;
    sys::write(&peer, &ctx.payload())
}

/// A source address that is not this host's.
fn transparent(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    sys::set_int(&fd, libc::IPPROTO_IP, libc::IP_TRANSPARENT, 1)?;
    sys::bind(&fd, &Addr::v4(SocketAddrV4::new(ELSEWHERE, 0)))?;
    sys::sendto(&fd, &ctx.payload(), 0, Some(&ctx.addr()?))
}

/// Joining a group makes the kernel send a membership report to it, on interfaces that have multicast (not `lo`).
fn igmp_join(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let index = sys::ifindex(&ctx.site.iface)?;
    let group = match ctx.inet()?.ip() {
        IpAddr::V4(group) => group,
        IpAddr::V6(_) => MULTICAST_V4,
    };
    let request = [&group.octets()[..], &[0; 4], &index.to_ne_bytes()].concat();
    sys::setsockopt(&fd, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request)?;
    thread::sleep(Duration::from_millis(100));
    Ok(Sent { bytes: 0 })
}

/// A PPP session over L2TP over a UDP socket of ours.
fn l2tp(ctx: &Ctx) -> Outcome {
    let below = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    sys::connect(&below, &ctx.addr()?)?;
    let to = ctx.addr()?;
    let number = below.as_raw_fd().to_ne_bytes();
    let place = |session: u16| {
        let ids = [1_u16, session, 1, session].map(u16::to_ne_bytes).concat();
        let protocol = PX_PROTO_OL2TP.to_ne_bytes();
        Addr::raw(libc::AF_PPPOX, &[&protocol[..], &[0; 4], &number, to.bytes(), &ids].concat())
    };
    // Session 0 is the tunnel itself.
    let tunnel = sys::socket(libc::AF_PPPOX, libc::SOCK_DGRAM, PX_PROTO_OL2TP)?;
    sys::connect(&tunnel, &place(0))?;
    let session = sys::socket(libc::AF_PPPOX, libc::SOCK_DGRAM, PX_PROTO_OL2TP)?;
    sys::connect(&session, &place(2))?;
    sys::write(&session, &ctx.payload())
}

/// A network file system whose client lives in the kernel.
struct Remote {
    kind: &'static CStr,
    source: fn(Ipv4Addr) -> String,
    options: fn(SocketAddrV4) -> String,
}

const NINE_P: Remote = Remote {
    kind: c"9p",
    source: |ip| ip.to_string(),
    options: |to| format!("trans=tcp,port={},version=9p2000.L", to.port()),
};

const NFS: Remote = Remote {
    kind: c"nfs4",
    source: |ip| format!("{ip}:/"),
    options: |to| {
        let (ip, port) = (to.ip(), to.port());
        format!("vers=4.2,addr={ip},clientaddr={ip},port={port},proto=tcp,soft,timeo=5,retrans=1,sec=sys")
    },
};

const CIFS: Remote = Remote {
    kind: c"cifs",
    source: |ip| format!("//{ip}/share"),
    options: |to| {
        format!("unc=\\\\{ip}\\share,ip={ip},port={},user=a,pass=b,vers=3.0", to.port(), ip = to.ip())
    },
};

/// mount(2) makes the kernel connect. The receiver is no file server, so a mount that was tried and failed is an act
/// that was let through.
fn mount(ctx: &Ctx, remote: &Remote) -> Outcome {
    let to = ctx.v4()?;
    let at = std::env::temp_dir().join(format!("chaperone-act-mount-{}", process::id()));
    fs::create_dir_all(&at).map_err(|error| Refused::io("mkdir", &error))?;
    let text = |text: String| CString::new(text).map_err(|_| Refused::new("mount", libc::EINVAL));
    let (source, point) = (text((remote.source)(*to.ip()))?, text(at.to_string_lossy().into_owned())?);
    let options = text((remote.options)(to))?;
    // SAFETY: the actor runs one thread here, so the child is a whole copy.
    let child = sys::call("fork", unsafe { libc::fork() })?;
    if child == 0 {
        // SAFETY: all are C strings that outlive the call.
        let errno = match unsafe {
            libc::mount(source.as_ptr(), point.as_ptr(), remote.kind.as_ptr(), 0, options.as_ptr().cast())
        } {
            0 => 0,
            _ => Refused::last("mount").errno,
        };
        // SAFETY: ends the child without running the parent's exit work a second time.
        unsafe { libc::_exit(errno & 0xff) };
    }
    let errno = wait_for_child(child, Duration::from_secs(4));
    // SAFETY: the path is a C string that outlives the call.
    unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH) };
    drop(fs::remove_dir(&at));
    match errno {
        Some(errno @ (libc::EPERM | libc::EACCES | libc::ENODEV | libc::EINVAL)) => {
            Err(Refused::new("mount", errno))
        }
        _ => Ok(Sent { bytes: 0 }),
    }
}

/// The child's exit status; None when it did not end in time, and was killed.
fn wait_for_child(child: usize, patience: Duration) -> Option<i32> {
    let child = libc::pid_t::try_from(child).unwrap_or(-1);
    let end = Instant::now() + patience;
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid int to fill.
        if unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child {
            return Some(libc::WEXITSTATUS(status));
        }
        if Instant::now() > end {
            // SAFETY: the child is ours and not yet waited for, so the pid is still its own.
            unsafe { libc::kill(child, libc::SIGKILL) };
            // SAFETY: a null status is allowed.
            unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
            return None;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Documentation's own network, so nobody's.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const PX_PROTO_OL2TP: i32 = 1;
