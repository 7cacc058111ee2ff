//! What an HTTP sink's other end says where it takes nothing, and what that asks for.

use std::time::{Duration, SystemTime};

use hyper::{HeaderMap, StatusCode, header::RETRY_AFTER};
use serde_json::Value;

/// An answer that is no 2xx.
#[derive(Debug, thiserror::Error)]
#[error("it answered {status}: {said}")]
pub struct Answer {
    status: StatusCode,
    /// Its beginning, in one line.
    said: String,
    /// How long it asks not to be asked again.
    pub wait: Option<Duration>,
}

impl Answer {
    pub fn new(status: StatusCode, headers: &HeaderMap, said: &[u8]) -> Self {
        let said = String::from_utf8_lossy(said).chars().filter(|c| !c.is_control()).take(SAID_MAX).collect();
        let asks = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let wait = headers.get(RETRY_AFTER).filter(|_| asks).and_then(|value| value.to_str().ok());
        let wait = wait.and_then(|text| retry_after(text, SystemTime::now()));
        Self { status, said, wait: wait.map(|wait| wait.clamp(WAIT_MIN, WAIT_MAX)) }
    }

    /// Whether the same would be refused again: for what it is, and not for who sends it, where to, or when.
    pub fn refuses_content(&self) -> bool {
        self.is_too_large()
            || matches!(self.status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
    }

    pub fn is_too_large(&self) -> bool {
        self.status == StatusCode::PAYLOAD_TOO_LARGE
    }
}

/// How many log records an OTLP receiver says that it has not kept of a batch that it took: it is not to be sent again
/// (OTLP 1.x, "Partial Success").
#[must_use]
pub fn rejected(said: &[u8]) -> u64 {
    let said: Value = serde_json::from_slice(said).unwrap_or_default();
    let count = &said["partialSuccess"]["rejectedLogRecords"];
    // In JSON, numbers of 64 bits are texts.
    count.as_u64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0)
}

/// Seconds, or a time (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default())
}

const SAID_MAX: usize = 200;
/// Whatever it asks for: neither at once, nor so late that a sink seems forgotten.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: &str) -> Answer {
        let headers = [(RETRY_AFTER, retry_after.parse().unwrap())].into_iter().collect();
        Answer::new(StatusCode::from_u16(status).unwrap(), &headers, b"no\r\nmore")
    }

    #[test]
    fn it_waits_as_it_is_asked_to_within_bounds() {
        let wait = |status, text| answer(status, text).wait.map(|wait| wait.as_secs());
        assert_eq!(wait(503, "20"), Some(20));
        assert_eq!(wait(429, "0"), Some(1));
        assert_eq!(wait(503, "99999999"), Some(300));
        assert_eq!(wait(503, "Fri, 31 Dec 9999 23:59:59 GMT"), Some(300));
        assert_eq!(wait(503, "Sun, 06 Nov 1994 08:49:37 GMT"), Some(1));
        assert_eq!((wait(503, "soon"), wait(500, "20"), wait(413, "20")), (None, None, None));
        let (text, now) = ("Sun, 06 Nov 1994 08:49:37 GMT", SystemTime::UNIX_EPOCH);
        assert_eq!(retry_after(text, now + Duration::from_secs(784_111_770)), Some(Duration::from_secs(7)));
    }

    #[test]
    fn what_was_taken_and_not_kept_is_counted() {
        for (said, count) in [
            (r#"{"partialSuccess":{"rejectedLogRecords":"7","errorMessage":"too old"}}"#, 7),
            (r#"{"partialSuccess":{"rejectedLogRecords":7}}"#, 7),
            (r#"{"partialSuccess":{"errorMessage":"a warning"}}"#, 0),
            (r#"{"partialSuccess":null}"#, 0),
            ("{}", 0),
            ("", 0),
            ("ok", 0),
        ] {
            assert_eq!(rejected(said.as_bytes()), count, "{said}");
        }
    }

    #[test]
    fn what_is_refused_for_what_it_is_is_told_from_the_rest() {
        let refused: Vec<u16> = (400..600).filter(|status| answer(*status, "").refuses_content()).collect();
        assert_eq!(refused, [400, 413, 422]);
        assert_eq!(answer(400, "").to_string(), "it answered 400 Bad Request: nomore");
    }
}
