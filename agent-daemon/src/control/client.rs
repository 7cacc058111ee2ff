//! The control socket's client, for the command line.

use std::{io, path::Path, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use super::api::Problem;

/// Why the daemon did not answer as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no daemon answers at {0} (start it: systemctl start chaperone, or chaperone daemon)")]
    NoDaemon(String),
    #[error("you may not use {0}: run this as root, or as a member of the daemon's control_group")]
    NotPermitted(String),
    #[error(
        "the daemon at {0} has said nothing for {1} s: it is stopped, or the disk of its journal does not take what it \
         writes; what is in force stays in force"
    )]
    Silent(String, u64),
    /// The daemon's own words.
    #[error("{message}")]
    Refused { status: u16, message: String },
    #[error("the daemon's answer cannot be read: {0}")]
    Broken(String),
}

/// Reads a path as JSON.
pub async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Error> {
    let body = whole(request(socket, Method::GET, path, Bytes::new()).await?).await?;
    serde_json::from_slice(&body).map_err(|error| Error::Broken(error.to_string()))
}

/// Reads a path as text.
pub async fn get_text(socket: &Path, path: &str) -> Result<String, Error> {
    let body = whole(request(socket, Method::GET, path, Bytes::new()).await?).await?;
    String::from_utf8(body.to_vec()).map_err(|error| Error::Broken(error.to_string()))
}

/// Sends JSON to a path that answers with nothing but its consent.
pub async fn post(socket: &Path, path: &str, body: &impl Serialize) -> Result<(), Error> {
    let body = serde_json::to_vec(body).map_err(|error| Error::Broken(error.to_string()))?;
    whole(request(socket, Method::POST, path, body.into()).await?).await.map(drop)
}

/// Sends JSON to a path and reads its answer.
pub async fn ask<T: DeserializeOwned>(socket: &Path, path: &str, body: &impl Serialize) -> Result<T, Error> {
    let body = serde_json::to_vec(body).map_err(|error| Error::Broken(error.to_string()))?;
    ask_with(socket, path, body).await
}

/// Sends bytes to a path and reads its answer.
pub async fn ask_with<T: DeserializeOwned>(socket: &Path, path: &str, body: Vec<u8>) -> Result<T, Error> {
    let answer = whole(request(socket, Method::POST, path, body.into()).await?).await?;
    serde_json::from_slice(&answer).map_err(|error| Error::Broken(error.to_string()))
}

/// Lines as they come, until the daemon ends them.
pub async fn follow(socket: &Path, path: &str) -> Result<Lines, Error> {
    let body = request(socket, Method::GET, path, Bytes::new()).await?.into_body();
    Ok(Lines { body, rest: Vec::new() })
}

/// The lines of an answer that does not end.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line, without its end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| Error::Broken(error.to_string()))?;
            self.rest.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
    }
}

async fn request(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Response<Incoming>, Error> {
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Error::NotPermitted(socket.display().to_string()),
        _ => Error::NoDaemon(socket.display().to_string()),
    })?;
    let broken = |error: hyper::Error| Error::Broken(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(&method)
        .uri(path)
        .header("host", "chaperone")
        .header("content-type", "application/json")
        .body(Full::new(body))
        .map_err(|error| Error::Broken(error.to_string()))?;
    let patience = if method == Method::GET { ANSWER_MAX } else { WORK_MAX };
    let response = timeout(patience, sender.send_request(request))
        .await
        .map_err(|_| Error::Silent(socket.display().to_string(), patience.as_secs()))?
        .map_err(broken)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = whole(response).await?;
    let message = serde_json::from_slice(&body).map(|p: Problem| p.error);
    Err(Error::Refused { status: status.as_u16(), message: message.unwrap_or_else(|_| canonical(status)) })
}

/// The daemon itself says sooner that it is too busy, if it can say anything.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// What is asked for may be work.
const WORK_MAX: Duration = Duration::from_secs(60);

fn canonical(status: StatusCode) -> String {
    format!("the daemon answered {status}")
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, Error> {
    let body = response.into_body().collect().await.map_err(|error| Error::Broken(error.to_string()))?;
    Ok(body.to_bytes())
}
