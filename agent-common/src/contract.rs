//! What two builds must agree on to share maps: the layout of every pinned map.
//!
//! A build with another contract does not touch the maps of the one before it. It makes its own, labels what runs
//! from /proc, and takes over when both are in force. What the one before it had told and lost it takes up too.

use crate::{
    event::{COUNTERS, KINDS, Subject, spoken::Conversation},
    identity::{
        Basename, CgroupAgent, CgroupName, FileKey, HASH_START, Instance, Label, Match, Owner, PathKey, Seed,
        Share, SuffixKey, SuffixStep, hash_step,
    },
    limits,
    name::{AddressKey, Known, NameKey, NameRuleKey, Question, QuestionKey},
    progress::Progress,
    rule::{ExactKey, Policy, PrefixKey, Rule, SocketKey, UnixKey},
};

/// Raise it when a field changes its meaning and no size does.
const REVISION: usize = 4;

/// One number for all that follows.
pub const CONTRACT: u64 = hash(&[
    REVISION,
    size_of::<Label>(),
    size_of::<Instance>(),
    size_of::<Share>(),
    size_of::<Seed>(),
    size_of::<Match>(),
    size_of::<FileKey>(),
    size_of::<Basename>(),
    size_of::<CgroupName>(),
    size_of::<PathKey>(),
    size_of::<CgroupAgent>(),
    size_of::<SuffixKey>(),
    size_of::<SuffixStep>(),
    size_of::<Owner>(),
    size_of::<Subject>(),
    size_of::<ExactKey>(),
    size_of::<PrefixKey>(),
    size_of::<UnixKey>(),
    size_of::<SocketKey>(),
    size_of::<Rule>(),
    size_of::<Policy>(),
    size_of::<Progress>(),
    size_of::<NameKey>(),
    size_of::<NameRuleKey>(),
    size_of::<AddressKey>(),
    size_of::<Known>(),
    size_of::<QuestionKey>(),
    size_of::<Question>(),
    size_of::<Conversation>(),
    KINDS as usize,
    COUNTERS as usize,
    limits::INSTANCES_MAX as usize,
    limits::FILES_MAX as usize,
    limits::PATHS_MAX as usize,
    limits::SUFFIXES_MAX as usize,
    limits::CGROUPS_MAX as usize,
    limits::CGROUPS_LIVE_MAX as usize,
    limits::ROLES_MAX as usize,
    limits::EXACT_RULES_MAX as usize,
    limits::PREFIX_RULES_MAX as usize,
    limits::UNIX_RULES_MAX as usize,
    limits::SOCKET_RULES_MAX as usize,
    limits::TASKS_MAX as usize,
    limits::SEEDS_MAX as usize,
    limits::RUNS_MAX as usize,
    limits::RING_BYTES as usize,
    limits::ADDRESSES_MAX as usize,
    limits::QUESTIONS_MAX as usize,
    limits::NAMES_MAX as usize,
    limits::NAME_RULES_MAX as usize,
    limits::RESOLVERS_MAX as usize,
]);

const fn hash(numbers: &[usize]) -> u64 {
    let mut hash = HASH_START;
    let mut i = 0;
    while i < numbers.len() {
        let bytes = (numbers[i] as u64).to_le_bytes();
        let mut at = 0;
        while at < bytes.len() {
            hash = hash_step(hash, bytes[at]);
            at += 1;
        }
        i += 1;
    }
    hash
}
