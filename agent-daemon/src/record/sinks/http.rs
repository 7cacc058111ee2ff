//! Batches by HTTP: lines of JSON, compressed and signed, or as OTLP's log records. A record is acknowledged by a 2xx.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use flate2::{Compression, write::GzEncoder};
use hmac::{Hmac, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    Record,
    answer::{self, Answer},
    secret, tls,
};
use crate::config::sinks::{Sink, authority};

pub struct Http {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    path: String,
    otlp: bool,
    /// What batches are signed with.
    key: Option<String>,
}

impl Http {
    pub async fn connect(
        tls: bool,
        host: &str,
        port: u16,
        path: &str,
        otlp: bool,
        sink: &Sink,
    ) -> Result<Self> {
        let key = sink.secret_file.as_deref().map(secret).transpose()?;
        let (stream, _) = tls::connect(host, port, tls, sink.ca.as_deref()).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("begin HTTP")?;
        tokio::spawn(connection);
        Ok(Self { sender, host: authority(host, port), path: path.to_owned(), otlp, key })
    }

    /// How many of the batch the other end says that it has not kept, of what it took.
    pub async fn send(&mut self, batch: &[Record]) -> Result<u64> {
        let body = if self.otlp { otlp(batch)? } else { lines(batch) };
        let body = zipped(&body)?;
        let kind = if self.otlp { "application/json" } else { "application/x-ndjson" };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .header("host", &self.host)
            .header("user-agent", concat!("chaperone/", env!("CARGO_PKG_VERSION")))
            .header("content-type", kind)
            .header("content-encoding", "gzip");
        if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
            request = request.header("chaperone-seq", format!("{}-{}", first.seq, last.seq));
        }
        if let Some(key) = &self.key {
            request = request.header("chaperone-signature", format!("sha256={}", signature(key, &body)));
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        self.sender.ready().await.context("the other end has closed the connection")?;
        let answer = self.sender.send_request(request).await.context("send a batch")?;
        let (head, body) = answer.into_parts();
        let said = read(body).await;
        if head.status.is_success() {
            let said = said?;
            return Ok(if self.otlp { answer::rejected(&said).min(batch.len() as u64) } else { 0 });
        }
        // The status counts, also where the connection ends within what is said of it.
        Err(Answer::new(head.status, &head.headers, &said.unwrap_or_default()).into())
    }
}

async fn read(mut body: Incoming) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.context("read the answer")?.data_ref()
            && all.len() < ANSWER_BYTES_MAX
        {
            all.extend_from_slice(data);
        }
    }
    Ok(all)
}

fn lines(batch: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in batch {
        out.extend_from_slice(record.text());
        out.push(b'\n');
    }
    out
}

fn zipped(body: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(body)?;
    Ok(gzip.finish()?)
}

/// HMAC-SHA-256 (RFC 2104) of the body as it is sent, hexadecimal.
fn signature(key: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key may have any length");
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// OTLP's `ExportLogsServiceRequest` in JSON (opentelemetry-proto 1.x): the event as the body, what one searches by as attributes.
fn otlp(batch: &[Record]) -> Result<Vec<u8>> {
    let mut host = Value::Null;
    let mut records = Vec::with_capacity(batch.len());
    for record in batch {
        // What is no JSON goes as it was recorded.
        let event: Value = serde_json::from_slice(&record.line).unwrap_or_default();
        host = event["host"].clone();
        let time = event["time"].as_str().and_then(unix_nanos).unwrap_or_default();
        let attributes: Vec<Value> = ATTRIBUTES
            .iter()
            .filter_map(|name| Some((*name, event[name].as_str()?)))
            .map(|(name, value)| attribute(&format!("chaperone.{name}"), value))
            .chain([json!({ "key": "chaperone.seq", "value": { "intValue": record.seq.to_string() } })])
            .collect();
        let (number, text) = record.severity.otlp();
        records.push(json!({
            "timeUnixNano": time.to_string(),
            "observedTimeUnixNano": time.to_string(),
            "severityNumber": number,
            "severityText": text,
            "eventName": format!("chaperone.{}", event["kind"].as_str().unwrap_or("unknown")),
            "body": { "stringValue": String::from_utf8_lossy(record.text()) },
            "attributes": attributes,
        }));
    }
    let resource =
        [attribute("service.name", "chaperone"), attribute("host.name", host.as_str().unwrap_or_default())];
    Ok(serde_json::to_vec(&json!({ "resourceLogs": [{
        "resource": { "attributes": resource },
        "scopeLogs": [{ "scope": { "name": "chaperone", "version": env!("CARGO_PKG_VERSION") }, "logRecords": records }],
    }] }))?)
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn unix_nanos(time: &str) -> Option<u64> {
    serde_json::from_value::<crate::event::word::Time>(Value::from(time)).ok().map(|time| time.0)
}

const ATTRIBUTES: [&str; 6] = ["kind", "verdict", "origin", "agent", "role", "instance"];
const ANSWER_BYTES_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::severity::Severity;

    #[test]
    fn an_ipv6_address_stands_in_brackets_and_a_name_does_not() {
        assert_eq!(authority("2001:db8::1", 8088), "[2001:db8::1]:8088");
        assert_eq!(authority("h.example.com", 443), "h.example.com:443");
    }

    #[test]
    fn a_signature_is_as_rfc_4231_has_it() {
        let wanted = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), wanted);
    }

    #[test]
    fn otlp_has_the_event_its_time_and_what_one_searches_by() {
        let line =
            r#"{"time":"2026-01-31T12:00:00.000000001Z","seq":3,"kind":"finding","host":"h","agent":"bot"}"#;
        let of = Record { severity: Severity::Medium, ..Record::new(3, line.into()) };
        let body: Value = serde_json::from_slice(&otlp(&[of]).unwrap()).unwrap();
        let record = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["timeUnixNano"], "1769860800000000001");
        assert_eq!((&record["severityText"], &record["body"]["stringValue"]), (&json!("WARN"), &json!(line)));
        assert!(record["attributes"].as_array().unwrap().contains(&attribute("chaperone.agent", "bot")));
    }
}
