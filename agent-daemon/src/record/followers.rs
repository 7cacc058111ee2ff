//! Those who follow the events through the control socket; a slow one is cut off and told so, and nobody waits for it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;

use crate::event::{Event, filter::Filter};

/// Everybody who follows at the moment.
#[derive(Debug, Default)]
pub struct Followers {
    all: Vec<Sender>,
    cut: u64,
    /// Lines that waited for followers who were cut off and never read them.
    unread: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Sender {
    filter: Filter,
    lines: mpsc::Sender<Arc<[u8]>>,
    lost: Arc<AtomicU64>,
}

/// The receiving end.
#[derive(Debug)]
pub struct Follower {
    pub lines: mpsc::Receiver<Arc<[u8]>>,
    lost: Arc<AtomicU64>,
    unread: Arc<AtomicU64>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        // One that leaves of its own will has lost nothing.
        while self.lost() > 0 && self.lines.try_recv().is_ok() {
            self.unread.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Follower {
    /// Once the lines have ended: how many were lost for being slow, 0 when it was not cut off.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }
}

impl Followers {
    /// Adds one.
    pub fn add(&mut self, filter: Filter) -> Follower {
        let (sender, lines) = mpsc::channel(LINES_WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        self.all.push(Sender { filter, lines: sender, lost: lost.clone() });
        Follower { lines, lost, unread: self.unread.clone() }
    }

    /// Gives a line to whoever wants it.
    pub fn offer(&mut self, event: &Event, line: &[u8]) {
        if self.all.is_empty() {
            return;
        }
        let mut shared: Option<Arc<[u8]>> = None;
        let before = self.all.len();
        let mut gone = 0;
        self.all.retain(|follower| {
            if !follower.filter.matches(event) {
                return true;
            }
            let line = shared.get_or_insert_with(|| line.into()).clone();
            match follower.lines.try_send(line) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    gone += 1;
                    false
                }
                Err(mpsc::error::TrySendError::Full(_)) => {
                    follower.lost.store(1, Ordering::Release);
                    false
                }
            }
        });
        self.cut += (before - self.all.len() - gone) as u64;
    }

    /// How many follow now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many were cut off for being slow.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Lines that wait for the one that is furthest behind.
    #[must_use]
    pub fn waiting_most(&self) -> usize {
        self.all.iter().map(|f| f.lines.max_capacity() - f.lines.capacity()).max().unwrap_or_default()
    }

    /// Lines that followers lost for being slow: the one that found no room, and those before it that were not read.
    #[must_use]
    pub fn lines_lost(&self) -> u64 {
        self.cut + self.unread.load(Ordering::Relaxed)
    }

    /// Forgets those who went away without an event having found out.
    pub fn sweep(&mut self) {
        self.all.retain(|follower| !follower.lines.is_closed());
    }
}

/// Lines that wait for a follower: about 2 MB of typical ones.
pub const LINES_WAITING_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_follower_is_cut_off_and_the_others_go_on() {
        let mut followers = Followers::default();
        let mut slow = followers.add(Filter::default());
        let mut picky = followers.add(Filter { agent: Some("nobody".to_owned()), ..Filter::default() });
        let gone = followers.add(Filter::default());
        drop(gone);
        for _ in 0..=LINES_WAITING_MAX {
            followers.offer(&Event::default(), b"{}\n");
        }
        assert_eq!((followers.len(), followers.cut()), (1, 1));
        let mut seen = 0;
        while slow.lines.recv().await.is_some() {
            seen += 1;
        }
        assert_eq!((seen, slow.lost()), (LINES_WAITING_MAX, 1));
        assert!(picky.lines.try_recv().is_err() && picky.lost() == 0);
        assert_eq!(followers.lines_lost(), 1);
    }

    #[tokio::test]
    async fn lines_that_were_never_read_are_lost_lines() {
        let mut followers = Followers::default();
        let (stuck, leaves) = (followers.add(Filter::default()), followers.add(Filter::default()));
        followers.offer(&Event::default(), b"{}\n");
        drop(leaves);
        for _ in 0..LINES_WAITING_MAX {
            followers.offer(&Event::default(), b"{}\n");
        }
        drop(stuck);
        assert_eq!((followers.cut(), followers.lines_lost()), (1, LINES_WAITING_MAX as u64 + 1));
    }
}
