//! One request, one answer: what each path means.

mod baseline;

use std::{collections::BTreeMap, time::Duration};

use agent_common::identity::Origin;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
};
use serde::Serialize;
use tokio::{sync::oneshot, time::timeout};

use super::{
    Service,
    access::Peer,
    body::{Answer, Lifetime},
    processes,
};
use crate::{
    control::{
        Command, Refusal,
        api::{Problem, RunRequest},
    },
    event::filter::Filter,
    identity::discovery,
};

type Reply = Response<Answer>;

/// Why there is no answer.
type Fault = (StatusCode, String);

/// Answers; what cannot be answered says why.
pub(super) async fn answer(
    request: Request<Incoming>,
    peer: Option<Peer>,
    service: &Service,
    lifetime: Lifetime,
) -> Reply {
    let path = request.uri().path().to_owned();
    let reply = match (peer, request.method(), path.as_str()) {
        (_, &Method::GET, "/metrics") | (Some(_), &Method::GET, "/v1/metrics") => metrics(service).await,
        (_, &Method::GET, "/healthz" | "/readyz") => health(service).await,
        (Some(_), &Method::GET, "/v1/ps") => ps(service).await,
        (Some(_), &Method::GET, "/v1/agents") => agents(service, None).await,
        (Some(_), &Method::GET, "/v1/names") => names(service).await,
        (Some(_), &Method::GET, "/v1/status") => status(service).await,
        (Some(_), &Method::GET, "/v1/events") => {
            events(request.uri().query().unwrap_or_default(), service, lifetime).await
        }
        (Some(peer), &Method::POST, "/v1/run") => run(request, peer, service).await,
        (Some(peer), &Method::POST, _) if path.starts_with("/v1/baseline/") => {
            baseline::change(request, peer, service).await
        }
        (Some(_), &Method::GET, _) if path.starts_with("/v1/agents/") => {
            agents(service, path.strip_prefix("/v1/agents/").map(str::to_owned)).await
        }
        (_, &Method::GET | &Method::POST, _) => {
            Err(fault(StatusCode::NOT_FOUND, "there is nothing at this path"))
        }
        _ => Err(fault(StatusCode::METHOD_NOT_ALLOWED, "GET reads, POST /v1/run and /v1/baseline/… ask")),
    };
    reply.unwrap_or_else(|(status, what)| problem(status, what))
}

async fn metrics(service: &Service) -> Result<Reply, Fault> {
    let mut processes: BTreeMap<&'static str, u64> =
        Origin::ALL.iter().map(|origin| origin.name()).chain([UNLABELLED]).map(|name| (name, 0)).collect();
    let pids = tokio::task::spawn_blocking(discovery::pids).await.unwrap_or_default();
    // In pieces, so that events get their turn between them.
    for some in pids.chunks(LABELS_PER_COMMAND) {
        let labels = ask(service, |reply| Command::Labels { pids: some.to_vec(), reply }).await?;
        for label in labels {
            *processes.entry(label.map_or(UNLABELLED, |label| label.origin.name())).or_default() += 1;
        }
    }
    let text = ask(service, |reply| Command::Metrics { processes, reply }).await?;
    Ok(whole(StatusCode::OK, "text/plain; version=0.0.4", text))
}

/// The pipeline answers, so it runs; it begins to once everything is attached, in force and labelled.
async fn health(service: &Service) -> Result<Reply, Fault> {
    ask(service, |reply| Command::Labels { pids: Vec::new(), reply }).await?;
    Ok(whole(StatusCode::OK, "text/plain", "ok\n".to_owned()))
}

async fn ps(service: &Service) -> Result<Reply, Fault> {
    let masks = service.masks.clone();
    let walk = tokio::task::spawn_blocking(move || processes::all(&masks)).await;
    let mut all =
        walk.map_err(|_| fault(StatusCode::INTERNAL_SERVER_ERROR, "the walk through /proc failed"))?;
    // In pieces, so that events get their turn between them.
    for some in all.chunks_mut(LABELS_PER_COMMAND) {
        let pids = some.iter().map(|process| process.pid).collect();
        let labels = ask(service, |reply| Command::Labels { pids, reply }).await?;
        for (process, label) in some.iter_mut().zip(labels) {
            process.label = label;
        }
    }
    Ok(json(&all))
}

async fn agents(service: &Service, name: Option<String>) -> Result<Reply, Fault> {
    let wanted = name.clone();
    let mut agents = ask(service, |reply| Command::Agents { name: wanted, reply }).await?;
    match (name, agents.pop()) {
        (None, None) => Ok(json(&agents)),
        (None, Some(last)) => {
            agents.push(last);
            Ok(json(&agents))
        }
        (Some(_), Some(agent)) => Ok(json(&agent)),
        (Some(name), None) => Err(fault(StatusCode::NOT_FOUND, format!("there is no agent `{name}`"))),
    }
}

async fn names(service: &Service) -> Result<Reply, Fault> {
    Ok(json(&ask(service, |reply| Command::Names { reply }).await?))
}

async fn status(service: &Service) -> Result<Reply, Fault> {
    Ok(json(&ask(service, |reply| Command::Status { reply }).await?))
}

async fn events(query: &str, service: &Service, lifetime: Lifetime) -> Result<Reply, Fault> {
    let filter = Filter::from_query(query).map_err(|wrong| fault(StatusCode::BAD_REQUEST, wrong))?;
    let follower = ask(service, |reply| Command::Follow { filter, reply }).await?;
    lifetime.begin_stream();
    let body = Answer::Stream { follower, lifetime, ended: false };
    Ok(response(StatusCode::OK, "application/x-ndjson", body))
}

async fn run(request: Request<Incoming>, peer: Peer, service: &Service) -> Result<Reply, Fault> {
    let bad = |what: &str| fault(StatusCode::BAD_REQUEST, what);
    let body = body(request, BODY_BYTES_MAX).await?;
    let wanted: RunRequest = serde_json::from_slice(&body)
        .map_err(|error| bad(&format!("the body is not {{\"agent\": NAME}}: {error}")))?;
    let caller = peer.pid.ok_or_else(|| bad("the kernel does not say which process asks"))?;
    let pid = wanted.pid.unwrap_or(caller);
    if pid != caller && peer.uid != 0 {
        return Err(fault(StatusCode::FORBIDDEN, "only root may ask on behalf of another process"));
    }
    // An agent must not get out of its instance by way of another process either.
    outside(caller, service).await?;
    match ask(service, |reply| Command::Run { pid, agent: wanted.agent, reply }).await? {
        Ok(()) => Ok(response(StatusCode::NO_CONTENT, "application/json", Answer::Whole(None))),
        Err(refusal) => {
            let status = match refusal {
                Refusal::NoSuchAgent { .. } => StatusCode::NOT_FOUND,
                Refusal::InsideInstance(_) => StatusCode::FORBIDDEN,
                Refusal::Baseline(_) => StatusCode::CONFLICT,
                Refusal::Kernel(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            Err(fault(status, refusal.to_string()))
        }
    }
}

/// The bytes of a request.
async fn body(request: Request<Incoming>, bytes_max: usize) -> Result<Bytes, Fault> {
    let body = timeout(BODY_TIMEOUT, Limited::new(request.into_body(), bytes_max).collect()).await;
    let body = body.map_err(|_| fault(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?;
    let body =
        body.map_err(|_| fault(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long or was cut off"))?;
    Ok(body.to_bytes())
}

/// Nothing, if the process belongs to no instance.
async fn outside(caller: u32, service: &Service) -> Result<(), Fault> {
    let labels = ask(service, |reply| Command::Labels { pids: vec![caller], reply }).await?;
    match labels.into_iter().flatten().find_map(|label| label.instance) {
        Some(id) => Err(fault(StatusCode::FORBIDDEN, Refusal::InsideInstance(id).to_string())),
        None => Ok(()),
    }
}

/// Asks the pipeline and waits for its answer.
async fn ask<T>(service: &Service, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Fault> {
    let gone = || fault(StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending");
    let (reply, answer) = oneshot::channel();
    let asked = async {
        service.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    };
    timeout(PIPELINE_TIMEOUT, asked)
        .await
        .unwrap_or_else(|_| Err(fault(StatusCode::SERVICE_UNAVAILABLE, "the daemon is too busy to answer")))
}

fn json(value: &impl Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(text) => whole(StatusCode::OK, "application/json", text + "\n"),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn fault(status: StatusCode, what: impl Into<String>) -> Fault {
    (status, what.into())
}

fn problem(status: StatusCode, what: impl Into<String>) -> Reply {
    let text = serde_json::to_string(&Problem { error: what.into() }).unwrap_or_default();
    whole(status, "application/json", text + "\n")
}

fn whole(status: StatusCode, content_type: &'static str, text: String) -> Reply {
    response(status, content_type, Answer::Whole(Some(text.into())))
}

fn response(status: StatusCode, content_type: &'static str, body: Answer) -> Reply {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// An answer for one who is not let in, as bytes: it gets no connection of its own.
pub(super) fn raw_refusal(why: &str) -> String {
    raw("403 Forbidden", why)
}

/// An answer for one who finds no room.
pub(super) fn raw_busy() -> String {
    raw("503 Service Unavailable", "too many clients at once; try again")
}

fn raw(status: &str, why: &str) -> String {
    let text = serde_json::to_string(&Problem { error: why.to_owned() }).unwrap_or_default();
    let length = text.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}"
    )
}

const LABELS_PER_COMMAND: usize = 512;
/// What stands for no label beside the origins.
const UNLABELLED: &str = "none";
pub const BODY_BYTES_MAX: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
const PIPELINE_TIMEOUT: Duration = Duration::from_secs(10);
