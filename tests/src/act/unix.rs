//! Unix sockets: the same socket under every spelling of its name.

use std::{
    ffi::{CStr, CString},
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process,
};

use crate::act::{
    ctx::{Ctx, Dest, Target, UnixName},
    sys::{self, Addr, Message, Outcome, Refused},
    ways::{Family::Unix, Way, way},
};

pub const WAYS: &[Way] = &[
    way("unix-stream", Unix, Dest::UnixPath("stream"), |ctx| connected(libc::SOCK_STREAM, ctx, &ctx.addr()?)),
    way("unix-dgram", Unix, Dest::UnixPath("dgram"), |ctx| connected(libc::SOCK_DGRAM, ctx, &ctx.addr()?)),
    way("unix-seqpacket", Unix, Dest::UnixPath("seqpacket"), |ctx| {
        connected(libc::SOCK_SEQPACKET, ctx, &ctx.addr()?)
    }),
    way("unix-dgram-sendto", Unix, Dest::UnixPath("dgram"), sendto),
    way("unix-dgram-sendmsg", Unix, Dest::UnixPath("dgram"), sendmsg),
    way("unix-relative", Unix, Dest::UnixPath("stream"), relative),
    way("unix-dotdot", Unix, Dest::UnixPath("stream"), dotdot),
    way("unix-symlink", Unix, Dest::UnixPath("stream"), |ctx| linked(ctx, true)),
    way("unix-hardlink", Unix, Dest::UnixPath("stream"), |ctx| linked(ctx, false))
        .setting("fs.protected_hardlinks"),
    way("unix-proc-fd-dir", Unix, Dest::UnixPath("stream"), |ctx| through_fd(ctx, true)),
    way("unix-proc-fd", Unix, Dest::UnixPath("stream"), |ctx| through_fd(ctx, false)),
    way("unix-proc-root", Unix, Dest::UnixPath("stream"), |ctx| {
        stream_to(ctx, &under("/proc/self/root", &path(ctx)?))
    }),
    way("unix-proc-cwd", Unix, Dest::UnixPath("stream"), proc_cwd),
    way("unix-chroot", Unix, Dest::UnixPath("stream"), chrooted).root(),
    way("unix-bind-mount", Unix, Dest::UnixPath("stream"), |ctx| bind_mounted(ctx, libc::CLONE_NEWNS)).root(),
    way("unix-bind-mount-userns", Unix, Dest::UnixPath("stream"), |ctx| {
        bind_mounted(ctx, libc::CLONE_NEWNS | libc::CLONE_NEWUSER)
    }),
    way("unix-abstract-stream", Unix, Dest::UnixAbstract("stream"), |ctx| {
        connected(libc::SOCK_STREAM, ctx, &ctx.addr()?)
    }),
    way("unix-abstract-dgram", Unix, Dest::UnixAbstract("dgram"), |ctx| {
        connected(libc::SOCK_DGRAM, ctx, &ctx.addr()?)
    }),
    way("unix-abstract-seqpacket", Unix, Dest::UnixAbstract("seqpacket"), |ctx| {
        connected(libc::SOCK_SEQPACKET, ctx, &ctx.addr()?)
    }),
    way("unix-abstract-sendto", Unix, Dest::UnixAbstract("dgram"), sendto),
];

fn connected(kind: i32, ctx: &Ctx, to: &Addr) -> Outcome {
    let fd = sys::socket(libc::AF_UNIX, kind, 0)?;
    sys::connect(&fd, to)?;
    sys::write(&fd, &ctx.payload())
}

fn sendto(ctx: &Ctx) -> Outcome {
    sys::sendto(&dgram()?, &ctx.payload(), 0, Some(&ctx.addr()?))
}

fn sendmsg(ctx: &Ctx) -> Outcome {
    Message { to: Some(&ctx.addr()?), bytes: &ctx.payload(), ..Message::default() }.send(&dgram()?)
}

fn dgram() -> Result<OwnedFd, Refused> {
    sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0)
}

fn path(ctx: &Ctx) -> Result<PathBuf, Refused> {
    match &ctx.to {
        Target::Unix(UnixName::Path(path)) => Ok(path.clone()),
        _ => Err(Refused::new("target", libc::EINVAL)),
    }
}

fn stream_to(ctx: &Ctx, spelling: &Path) -> Outcome {
    connected(libc::SOCK_STREAM, ctx, &Addr::unix_path(spelling.as_os_str().as_bytes()))
}

/// `path` below another root: `/proc/self/root` + `/tmp/x`.
fn under(root: &str, path: &Path) -> PathBuf {
    Path::new(root).join(path.strip_prefix("/").unwrap_or(path))
}

fn split(ctx: &Ctx) -> Result<(PathBuf, PathBuf), Refused> {
    let path = path(ctx)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent.to_owned(), name.into())),
        _ => Err(Refused::new("target", libc::EINVAL)),
    }
}

fn enter(directory: &Path) -> Result<(), Refused> {
    std::env::set_current_dir(directory).map_err(|error| Refused::io("chdir", &error))
}

fn relative(ctx: &Ctx) -> Outcome {
    let (directory, name) = split(ctx)?;
    enter(&directory)?;
    stream_to(ctx, &name)
}

fn dotdot(ctx: &Ctx) -> Outcome {
    let (directory, name) = split(ctx)?;
    let again = directory.file_name().map(PathBuf::from).unwrap_or_default();
    stream_to(ctx, &directory.join("..").join(again).join("./").join(name))
}

fn proc_cwd(ctx: &Ctx) -> Outcome {
    let (directory, name) = split(ctx)?;
    enter(&directory)?;
    stream_to(ctx, &Path::new("/proc/self/cwd").join(name))
}

/// A second name for the socket's file.
fn linked(ctx: &Ctx, symbolic: bool) -> Outcome {
    let path = path(ctx)?;
    let other = path.with_extension(format!("link-{}", process::id()));
    let made =
        if symbolic { std::os::unix::fs::symlink(&path, &other) } else { fs::hard_link(&path, &other) };
    made.map_err(|error| Refused::io("link", &error))?;
    let outcome = stream_to(ctx, &other);
    drop(fs::remove_file(&other));
    outcome
}

/// The name is a descriptor: of the directory, or of the socket's own file.
fn through_fd(ctx: &Ctx, of_directory: bool) -> Outcome {
    let (directory, name) = split(ctx)?;
    let opened = if of_directory { directory.clone() } else { path(ctx)? };
    let opened =
        CString::new(opened.as_os_str().as_bytes()).map_err(|_| Refused::new("open", libc::EINVAL))?;
    let fd = sys::open(&opened, libc::O_PATH)?;
    let link = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    stream_to(ctx, &if of_directory { link.join(name) } else { link })
}

/// Seen from a new root the socket's path is another.
fn chrooted(ctx: &Ctx) -> Outcome {
    let (directory, name) = split(ctx)?;
    std::os::unix::fs::chroot(&directory).map_err(|error| Refused::io("chroot", &error))?;
    enter(Path::new("/"))?;
    stream_to(ctx, &Path::new("/").join(name))
}

/// In a mount namespace of its own the process puts the socket over another path (one that `--first` names), and
/// connects to that.
fn bind_mounted(ctx: &Ctx, namespaces: i32) -> Outcome {
    let path = path(ctx)?;
    let decoy = match &ctx.first {
        Target::Unix(UnixName::Path(first)) if *first != path => first.clone(),
        _ => path.with_extension(format!("decoy-{}", process::id())),
    };
    if !decoy.exists() {
        fs::write(&decoy, "").map_err(|error| Refused::io("decoy", &error))?;
    }
    // SAFETY: no pointers are passed.
    sys::call("unshare", unsafe { libc::unshare(namespaces) })?;
    // Nothing that is mounted here may reach the host.
    mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE)?;
    let c_path = |path: &Path| {
        CString::new(path.as_os_str().as_bytes()).map_err(|_| Refused::new("mount", libc::EINVAL))
    };
    mount(&c_path(&path)?, &c_path(&decoy)?, libc::MS_BIND)?;
    stream_to(ctx, &decoy)
}

fn mount(source: &CStr, at: &CStr, flags: libc::c_ulong) -> Result<(), Refused> {
    let none = std::ptr::null();
    // SAFETY: both paths are C strings that outlive the call.
    sys::call("mount", unsafe { libc::mount(source.as_ptr(), at.as_ptr(), none, flags, none.cast()) })
        .map(drop)
}
