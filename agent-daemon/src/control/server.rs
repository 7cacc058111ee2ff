//! The control socket's server: HTTP/1.1 and JSON, one request a connection, everything bounded.

mod access;
mod answer;
mod body;
mod processes;

use std::{
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

pub use self::{access::Access, answer::BODY_BYTES_MAX};
use self::{access::Peer, body::Lifetime};
use super::Command;
use crate::event::mask::Masks;

/// What answering needs.
#[derive(Clone)]
struct Service {
    commands: mpsc::Sender<Command>,
    masks: Arc<Masks>,
}

/// Makes the socket, in a directory of its own; a dead daemon's socket is replaced, a living one's is not.
pub fn bind(path: &Path, access: &Access) -> Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            anyhow::bail!("another daemon answers there; end it first (systemctl stop chaperone)");
        }
        std::fs::remove_file(path).context("remove the socket that a dead daemon left")?;
    }
    let listener = UnixListener::bind(path)?;
    let mode = if access.group().is_some() { 0o660 } else { 0o600 };
    if let Some(group) = access.group() {
        std::os::unix::fs::chown(path, None, Some(group)).context("give the socket to its group")?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Answers clients for as long as the pipeline takes commands.
pub async fn serve(listener: UnixListener, access: Access, masks: Masks, commands: mpsc::Sender<Command>) {
    let service = Service { commands, masks: Arc::new(masks) };
    let room = |places| Arc::new(Semaphore::new(places));
    let (own, guests, lobby) = (room(CLIENTS_MAX), room(GUESTS_MAX), room(REFUSED_MAX));
    while !service.commands.is_closed() {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let peer = match access.admit(&stream) {
            Ok(peer) => peer,
            Err(refused) => {
                debug!(%refused, "a client of the control socket was refused");
                refuse(stream, answer::raw_refusal(&refused), &lobby);
                continue;
            }
        };
        let room = if peer.uid == 0 { &own } else { &guests };
        let Ok(place) = room.clone().try_acquire_owned() else {
            refuse(stream, answer::raw_busy(), &lobby);
            continue;
        };
        let service = service.clone();
        tokio::spawn(async move {
            connection(stream, Some(peer), service).await;
            drop(place);
        });
    }
}

/// Answers `/metrics`, `/healthz` and `/readyz` over TCP.
pub async fn serve_metrics(listener: TcpListener, commands: mpsc::Sender<Command>) {
    let service = Service { commands, masks: Arc::default() };
    let room = Arc::new(Semaphore::new(SCRAPERS_MAX));
    while !service.commands.is_closed() {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let Ok(place) = room.clone().try_acquire_owned() else { continue };
        let service = service.clone();
        tokio::spawn(async move {
            connection(stream, None, service).await;
            drop(place);
        });
    }
}

/// One client, from its first byte to the end of its answer. Without a peer, only what anybody may read is answered.
async fn connection<S>(stream: S, peer: Option<Peer>, service: Service)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let lifetime = Lifetime::default();
    let answering = service_fn(|request| {
        let (service, lifetime) = (service.clone(), lifetime.clone());
        async move { Ok::<_, std::convert::Infallible>(answer::answer(request, peer, &service, lifetime).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answering);
    tokio::select! {
        result = serving => if let Err(error) = result {
            debug!(%error, "a client of the control socket went away");
        },
        // One that does not read its answer may not keep its place.
        () = lifetime.over(ANSWER_TIMEOUT, LAST_LINES_TIMEOUT) => {}
    }
}

/// Tells one who is not let in why, if not too many are being told already.
fn refuse(mut stream: UnixStream, text: String, lobby: &Arc<Semaphore>) {
    let Ok(place) = lobby.clone().try_acquire_owned() else { return };
    tokio::spawn(async move {
        // A client that is cut off while it is still asking never looks at the answer.
        let telling = async {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(text.as_bytes()).await;
        };
        let _ = timeout(REFUSAL_TIMEOUT, telling).await;
        drop(place);
    });
}

async fn pause_after(error: &io::Error) {
    // Out of file descriptors: existing clients have to go before new ones can come.
    warn!(%error, "a client cannot be accepted");
    sleep(Duration::from_millis(100)).await;
}

/// Root's own, so that members of the group cannot take every place.
pub const CLIENTS_MAX: usize = 32;
/// Clients that are not root.
pub const GUESTS_MAX: usize = 32;
pub const REFUSED_MAX: usize = 8;
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
pub const SCRAPERS_MAX: usize = 8;
pub const HEADER_BYTES_MAX: usize = 16 << 10;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer that is not a stream is read within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The rest of a stream that has ended is read within this time.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(5);
