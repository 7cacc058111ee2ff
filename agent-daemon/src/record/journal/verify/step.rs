//! One record's check: does it follow the one before, is what it signs so, and what does it tell of gaps.

use serde::Deserialize;

use super::Report;
use crate::{
    event::{
        Kind,
        journal::{Checkpoint, Opened, Place, Range, Removed},
        local::{Lost, Previous},
        word::Time,
    },
    record::journal::{
        chain::{self, Hash, Link},
        checkpoint::Head,
        key::PublicKey,
    },
};

/// What was checked so far.
#[derive(Debug)]
pub struct Step<'a> {
    keys: &'a [PublicKey],
    expect: Option<Link>,
    head: Option<Link>,
    pub report: Report,
    /// Whether the expected record was there.
    pub expected_found: bool,
    /// The hash of the record that the head names, if it was there.
    pub head_hash: Option<Hash>,
    last: Link,
    journal: Box<str>,
    segment: u64,
    /// What the first record of all continues from.
    begins: Option<Place>,
    at_begin: bool,
    ends_signed: bool,
    /// How many of the removals that are told are signed: only those excuse that the journal begins late.
    removals_signed: usize,
    /// A record that excuses a hole and is not signed yet, and what is missing.
    excuse: Option<(u64, Range)>,
}

/// Where and why the journal is not whole.
#[derive(Debug)]
pub struct Fault {
    pub seq: u64,
    pub what: String,
}

#[derive(Deserialize)]
struct Record {
    time: Time,
    seq: u64,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    journal: Option<Opened>,
    #[serde(default)]
    checkpoint: Option<Checkpoint>,
    #[serde(default)]
    removed: Option<Removed>,
    #[serde(default)]
    lost: Option<Lost>,
    #[serde(default)]
    daemon: Option<Daemon>,
}

impl Record {
    /// What a checkpoint signs is what stands before it: none of its own fields but those that are signed, and of no record
    /// what its kind does not say.
    fn of_its_kind(self) -> Self {
        Self {
            journal: self.journal.filter(|_| self.kind == Kind::JournalOpened),
            checkpoint: self.checkpoint.filter(|_| self.kind == Kind::Checkpoint),
            removed: self.removed.filter(|_| self.kind == Kind::SegmentsRemoved),
            ..self
        }
    }
}

#[derive(Deserialize)]
struct Daemon {
    #[serde(default)]
    previous: Option<Previous>,
}

#[derive(Deserialize)]
struct Number {
    seq: u64,
}

impl<'a> Step<'a> {
    pub fn new(keys: &'a [PublicKey], expect: Option<Link>, head: Option<Link>) -> Self {
        Self {
            keys,
            expect,
            head,
            report: Report::default(),
            expected_found: false,
            head_hash: None,
            last: Link::default(),
            journal: "".into(),
            segment: 0,
            begins: None,
            at_begin: true,
            ends_signed: false,
            removals_signed: 0,
            excuse: None,
        }
    }

    /// The next record is the first of a segment.
    pub fn begin_segment(&mut self) {
        self.at_begin = true;
    }

    /// The end of a segment that is closed.
    pub fn end_segment(&mut self) -> Result<(), Fault> {
        if self.at_begin {
            return Err(self.fault("the segment has no record".into()));
        }
        if !self.ends_signed {
            let what = "records are missing at the end of the segment: it does not end with a checkpoint";
            return Err(self.fault(what.into()));
        }
        Ok(())
    }

    /// Checks a line; the one after it helps to say what is wrong.
    pub fn take(&mut self, line: &[u8], after: Option<&[u8]>) -> Result<(), Fault> {
        let Some(text) = line.strip_suffix(b"\n") else {
            return Err(self.fault("altered: the record has no end".into()));
        };
        let Some((body, hash)) = chain::split(text) else {
            return Err(self.fault("altered: this is no sealed record".into()));
        };
        let Ok(record) = serde_json::from_slice::<Record>(text).map(Record::of_its_kind) else {
            return Err(self.fault("altered: this is no record".into()));
        };
        let first_of_all = self.report.records == 0;
        if self.at_begin && record.journal.is_none() {
            let what = "records are missing at the beginning of the segment: it does not begin with `journal_opened`";
            return Err(self.fault(what.into()));
        }
        let before = match &record.journal {
            Some(opened) if first_of_all => self.begin(opened, record.seq)?,
            Some(Opened { broken_at: Some(at), .. }) => {
                return Err(Fault {
                    seq: *at,
                    what: format!("the journal did not hold from record {at} on when it was opened"),
                });
            }
            _ => self.last.hash,
        };
        if (Link { seq: 0, hash: before }).hash_of(body) != hash {
            return Err(self.diagnose(record.seq, hash, after, record.journal.as_ref()));
        }
        let missing = record.journal.as_ref().and_then(|opened| opened.missing);
        let seq = match missing {
            Some(Range { from, to }) if from == self.last.seq + 1 && to >= from => to + 1,
            _ => self.last.seq + 1,
        };
        if record.seq != seq {
            return Err(
                self.fault(format!("the record has the number {}: the chain was made anew", record.seq))
            );
        }
        self.look_into(&record)?;
        self.count(&record, Link { seq, hash });
        Ok(())
    }

    /// Something is wrong where the next record is expected.
    pub fn fault(&self, what: String) -> Fault {
        Fault { seq: self.last.seq + 1, what }
    }

    /// What is wrong with where the journal begins: what is missing must have been removed.
    pub fn first_is_missing(&self, report: &Report) -> Option<String> {
        let before = self.begins.as_ref()?;
        let told = report.gaps.removed[..self.removals_signed].iter().any(|removed| {
            match removed.to == before.seq {
                true => removed.last_hash == before.hash,
                false => (removed.from..removed.to).contains(&before.seq),
            }
        });
        let what =
            "records before it are missing, and nothing signed in the journal says that they were removed";
        (!told).then(|| format!("{what} (up to {})", before.seq))
    }

    /// What is missing though nothing but an unsigned record, which anybody could have written, says why.
    #[must_use]
    pub fn unsigned_excuse(&self) -> Option<Fault> {
        let (seq, Range { from, to }) = self.excuse?;
        let what = format!("records {from} to {to} are missing, and the record that says so is not signed");
        Some(Fault { seq, what })
    }

    /// The first record that there is: what lies before it is what it says.
    fn begin(&mut self, opened: &Opened, seq: u64) -> Result<Hash, Fault> {
        self.begins = opened.continues.clone();
        self.journal = opened.journal.clone();
        self.segment = opened.segment.saturating_sub(1);
        self.report.first_seq = seq;
        if let Some(at) = opened.broken_at {
            return Err(Fault {
                seq: at,
                what: format!("the journal did not hold from record {at} on when it was opened"),
            });
        }
        let Some(before) = &opened.continues else {
            self.last.seq = 0;
            return Ok(Hash::default());
        };
        self.last.seq = before.seq;
        let Some(hash) = Hash::from_digits(before.hash.as_bytes()) else {
            return Err(self.fault("altered: the hash before it is none".into()));
        };
        self.last.hash = hash;
        Ok(hash)
    }

    /// Why a record does not follow the one before.
    fn diagnose(&self, seq: u64, hash: Hash, after: Option<&[u8]>, opened: Option<&Opened>) -> Fault {
        let expected = self.last.seq + 1;
        let after = after
            .and_then(|line| serde_json::from_slice::<Number>(line.trim_ascii_end()).ok())
            .map(|of| of.seq);
        let what = if opened.is_some_and(|opened| opened.journal != self.journal) {
            "from another journal".to_owned()
        } else if seq + 1 == expected && hash == self.last.hash {
            format!("doubled: this is record {seq} once more")
        } else if seq == expected || after == Some(expected + 1) {
            "altered, or from elsewhere: its hash does not follow from the record before".to_owned()
        } else if after == Some(expected) {
            format!("reordered: record {seq} stands before it")
        } else if seq > expected {
            let missing = if seq - 1 == expected {
                format!("record {expected}")
            } else {
                format!("records {expected} to {}", seq - 1)
            };
            format!("missing: {missing}; record {seq} stands here")
        } else {
            format!("reordered, or from elsewhere: record {seq} stands here")
        };
        Fault { seq: expected, what }
    }

    fn look_into(&mut self, record: &Record) -> Result<(), Fault> {
        if let Some(opened) = &record.journal {
            let whole = match &opened.continues {
                Some(place) => {
                    Hash::from_digits(place.hash.as_bytes()) == Some(self.last.hash)
                        && place.seq == self.last.seq
                }
                None => self.last == Link::default(),
            };
            if !whole {
                return Err(
                    self.fault("from elsewhere: it continues another record than the one before".into())
                );
            }
            let segment = self.segment + u64::from(self.at_begin);
            if opened.segment != segment {
                return Err(self
                    .fault(format!("it begins segment {}, and this is segment {segment}", opened.segment)));
            }
            if !self.keys.iter().any(|key| *key.id == *opened.key) {
                return Err(self
                    .fault(format!("signed from here on with the key {}, which was not given", opened.key)));
            }
            self.segment = segment;
            self.journal = opened.journal.clone();
        }
        if record.kind == Kind::Checkpoint {
            let Some(checkpoint) = &record.checkpoint else {
                return Err(self.fault("a checkpoint that signs nothing".into()));
            };
            let head = Head { time: record.time, checkpoint: checkpoint.clone() };
            if head.link() != Some(self.last) || checkpoint.journal != self.journal {
                return Err(self.fault("the checkpoint signs another record than the one before".into()));
            }
            if !self.keys.iter().any(|key| *key.id == *checkpoint.key && head.is_signed_by(key)) {
                return Err(self.fault("the checkpoint is forged: the key has not signed it".into()));
            }
        }
        Ok(())
    }

    fn count(&mut self, record: &Record, link: Link) {
        let report = &mut self.report;
        report.records += 1;
        report.last_seq = link.seq;
        report.last_hash = link.hash.to_string();
        report.first_time.get_or_insert(record.time);
        report.last_time = Some(record.time);
        self.ends_signed = record.kind == Kind::Checkpoint;
        if self.ends_signed {
            report.checkpoints += 1;
            report.signed_seq = self.last.seq;
            report.unsigned = 0;
            (self.removals_signed, self.excuse) = (report.gaps.removed.len(), None);
        } else {
            report.unsigned += 1;
        }
        let gaps = &mut report.gaps;
        if let Some(opened) = &record.journal {
            gaps.torn_bytes += opened.torn_bytes;
            if let Some(range) = opened.missing {
                gaps.missing += range.to - range.from + 1;
                self.excuse.get_or_insert((link.seq, range));
            }
            if !opened.set_aside.is_empty() {
                gaps.set_aside.push(opened.set_aside.to_string());
            }
        }
        gaps.removed.extend(record.removed.clone());
        if let Some(previous) = record.daemon.as_ref().and_then(|daemon| daemon.previous) {
            gaps.dead.push((previous.last_record, record.time, previous.orderly));
        }
        if let Some(lost) = &record.lost {
            let unwritten = Some((Box::from("unwritten"), lost.unwritten)).filter(|(_, count)| *count > 0);
            for (kind, count) in
                lost.ring.clone().into_iter().chain(lost.undecodable.clone()).chain(unwritten)
            {
                *gaps.lost.entry(kind.into()).or_default() += count;
            }
        }
        self.expected_found |= self.expect == Some(link);
        if self.head.is_some_and(|head| head.seq == link.seq) {
            self.head_hash = Some(link.hash);
        }
        self.last = link;
        self.at_begin = false;
    }
}
