//! Changes of baselines: who may ask for them, and what they ask.

use hyper::{Request, StatusCode, body::Incoming};
use serde::de::DeserializeOwned;

use super::{Fault, Reply, ask, body, fault, json, outside};
use crate::{
    baseline::{Model, document::Document},
    control::{
        Change, Command, Refusal,
        server::{Service, access::Peer, answer::BODY_BYTES_MAX},
    },
    event::{Name, finding::By},
    identity::discovery,
};

/// Root alone, and from outside every instance: what is usual decides what is found and refused.
pub(super) async fn change(
    request: Request<Incoming>,
    peer: Peer,
    service: &Service,
) -> Result<Reply, Fault> {
    if peer.uid != 0 {
        return Err(fault(StatusCode::FORBIDDEN, "only root may change baselines"));
    }
    let Some(caller) = peer.pid else {
        return Err(fault(StatusCode::BAD_REQUEST, "the kernel does not say which process asks"));
    };
    outside(caller, service).await?;
    let by = By { uid: peer.uid, pid: peer.pid, loginuid: discovery::login_uid(caller) };
    let path = request.uri().path().to_owned();
    let wanted = match path.strip_prefix("/v1/baseline/").unwrap_or_default() {
        "promote" => Change::Promote(parsed(&body(request, PROMOTION_BYTES_MAX).await?)?),
        "rollback" => Change::RollBack(parsed(&body(request, BODY_BYTES_MAX).await?)?),
        "forget" => Change::Forget(parsed(&body(request, BODY_BYTES_MAX).await?)?),
        "import" => {
            let lines = body(request, IMPORT_BYTES_MAX).await?;
            // Beside everything else: it may be much.
            let models = tokio::task::spawn_blocking(move || exported(&lines)).await;
            Change::Import(models.map_err(|_| bad("it cannot be read".into()))?.map_err(bad)?)
        }
        _ => return Err(fault(StatusCode::NOT_FOUND, "there is nothing at this path")),
    };
    match ask(service, |reply| Command::Baseline { ask: wanted, by, reply }).await? {
        Ok(changed) => Ok(json(&changed)),
        Err(Refusal::Baseline(why)) => Err(fault(StatusCode::CONFLICT, why)),
        Err(refusal) => Err(fault(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string())),
    }
}

fn bad(what: String) -> Fault {
    fault(StatusCode::BAD_REQUEST, what)
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body)
        .map_err(|error| bad(format!("the body is not what this path takes: {error}")))
}

/// What `chaperone baseline export` writes.
fn exported(lines: &[u8]) -> Result<Vec<(Name, Model)>, String> {
    let text = std::str::from_utf8(lines).map_err(|error| error.to_string())?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| Document::parse(line).map_err(|why| format!("line {}: {why}", at + 1))).collect()
}

const PROMOTION_BYTES_MAX: usize = 2 << 20;
/// Some ten thousand behaviours; what is more is imported role by role, or while the daemon is down.
pub const IMPORT_BYTES_MAX: usize = 64 << 20;
