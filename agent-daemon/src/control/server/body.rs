//! What is sent back: a whole answer, or lines for as long as somebody follows.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame};
use tokio::{sync::Notify, time::sleep};

use crate::{
    event::{Event, Kind, local::Lost, word::Time},
    record::followers::Follower,
};

/// The body of an answer.
pub(super) enum Answer {
    Whole(Option<Bytes>),
    Stream { follower: Follower, lifetime: Lifetime, ended: bool },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Stream { ended: true, .. } => Poll::Ready(None),
            Self::Stream { follower, lifetime, ended } => {
                if let Some(line) = ready!(follower.lines.poll_recv(context)) {
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(line)))));
                }
                *ended = true;
                lifetime.end();
                Poll::Ready(match follower.lost() {
                    0 => None,
                    lost => Some(Ok(Frame::data(cut_off(lost)))),
                })
            }
        }
    }
}

/// The last line of a follower that was too slow.
fn cut_off(lost: u64) -> Bytes {
    let lost = Some(Lost { follower: lost, ..Lost::default() });
    let mut line = Vec::new();
    Event { time: Time::now(), kind: Kind::EventsLost, lost, ..Event::default() }.write_line(&mut line);
    line.into()
}

/// How long a connection may last: a stream as long as it flows, anything else a fixed time.
#[derive(Clone, Default)]
pub(super) struct Lifetime(Arc<(AtomicBool, Notify)>);

impl Lifetime {
    /// This connection is a stream.
    pub(super) fn begin_stream(&self) {
        self.0.0.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        self.0.1.notify_one();
    }

    pub(super) async fn over(&self, answer: Duration, last_lines: Duration) {
        sleep(answer).await;
        if self.0.0.load(Ordering::Relaxed) {
            self.0.1.notified().await;
            sleep(last_lines).await;
        }
    }
}
