//! What well-known tokens look like: one table gives the tell-tale letters, the whole shape and the cut one.

use std::{fmt::Write as _, sync::LazyLock};

use regex::Regex;

/// Tokens by how they begin: the beginning, what may follow, and how much of it at least.
///
/// A beginning of fewer than five letters counts only where a word begins, or behind an option's letter: `disk-…` is no `sk-…`.
pub(super) const TOKENS: &[(&str, &str, u8)] = &[
    // Models and what agents are built from.
    ("sk-", WORD, 16),
    ("gsk_", ALNUM, 20),
    ("xai-", ALNUM, 20),
    ("pplx-", ALNUM, 20),
    ("hf_", ALNUM, 30),
    ("r8_", ALNUM, 30),
    ("nvapi-", WORD, 20),
    ("lsv2_", WORD, 20),
    ("tvly-", WORD, 20),
    // Source and packages.
    ("ghp_", ALNUM, 20),
    ("gho_", ALNUM, 20),
    ("ghu_", ALNUM, 20),
    ("ghs_", ALNUM, 20),
    ("ghr_", ALNUM, 20),
    ("github_pat_", WORD, 20),
    ("glpat-", DOTTED, 16),
    ("gldt-", DOTTED, 16),
    ("glrt-", DOTTED, 16),
    ("glcbt-", DOTTED, 16),
    ("glptt-", DOTTED, 16),
    ("glsoat-", DOTTED, 16),
    ("glagent-", DOTTED, 16),
    ("npm_", ALNUM, 30),
    ("pypi-AgE", WORD, 40),
    ("rubygems_", HEX, 40),
    ("dckr_pat_", WORD, 16),
    ("dckr_oat_", WORD, 16),
    ("ATATT3", DOTTED, 30),
    ("lin_api_", ALNUM, 20),
    ("figd_", WORD, 20),
    ("ntn_", ALNUM, 30),
    // Clouds.
    ("AKIA", UPPER, 16),
    ("ASIA", UPPER, 16),
    ("IQoJb3JpZ2lu", BASE64, 50),
    ("FwoGZXIvYXdz", BASE64, 50),
    ("AIza", WORD, 35),
    ("GOCSPX-", WORD, 20),
    ("ya29.", WORD, 20),
    ("1//0", WORD, 30),
    ("dop_v1_", HEX, 32),
    ("doo_v1_", HEX, 32),
    ("dor_v1_", HEX, 32),
    ("tskey-", WORD, 16),
    ("hvs.", WORD, 20),
    ("hvb.", WORD, 20),
    ("hvr.", WORD, 20),
    ("pul-", HEX, 40),
    ("sntrys_", BASE64, 30),
    ("glsa_", WORD, 30),
    ("PMAK-", WORD, 30),
    // Messages, money, mail.
    ("xoxa-", WORD, 10),
    ("xoxb-", WORD, 10),
    ("xoxc-", WORD, 10),
    ("xoxd-", BASE64, 10),
    ("xoxe", DOTTED, 10),
    ("xoxo-", WORD, 10),
    ("xoxp-", WORD, 10),
    ("xoxr-", WORD, 10),
    ("xoxs-", WORD, 10),
    ("xapp-", WORD, 20),
    ("sk_live_", ALNUM, 10),
    ("sk_test_", ALNUM, 10),
    ("rk_live_", ALNUM, 10),
    ("rk_test_", ALNUM, 10),
    ("whsec_", BASE64, 20),
    ("shpat_", HEX, 30),
    ("shpss_", HEX, 30),
    ("sq0csp-", WORD, 30),
    ("SG.", DOTTED, 40),
    // Keys as such, also in base64: `-----BEGIN`, `{"auths":`, `{"type":`.
    ("AGE-SECRET-KEY-1", UPPER, 20),
    ("LS0tLS1CRUdJTi", BASE64, 20),
    ("eyJhdXRocyI6", BASE64, 20),
    ("ewogICJ0eXBlIjog", BASE64, 20),
    ("eyJ0eXBlIjoi", BASE64, 20),
    ("eyJ0eXBlIjogI", BASE64, 20),
];

/// Tokens that are more than a beginning and a body, by the letters that give them away.
pub(super) const OTHERS: &[(&str, &str)] = &[
    // JWT.
    ("eyj", r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"),
    // Web hooks: who knows the address may write.
    ("hooks.slack.com", r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]+"),
    ("/webhooks/", r"/api/webhooks/[0-9]+/[A-Za-z0-9_-]{20,}"),
    ("webhook.office.com", r"webhook\.office\.com/[A-Za-z0-9/@_-]+"),
    // Telegram.
    (":aa", r"[0-9]{8,10}:AA[A-Za-z0-9_-]{32,}"),
    // Entra client secrets.
    ("q~", r"[A-Za-z0-9_.~-]{3}[0-9]Q~[A-Za-z0-9_.~-]{31,34}"),
    // Terraform Cloud.
    (".atlasv1.", r"\b[A-Za-z0-9]{10,}\.atlasv1\.[A-Za-z0-9_-]{30,}"),
];

/// All shapes as one pattern.
pub(super) static WHOLE: LazyLock<Regex> = LazyLock::new(|| {
    let mut pattern = String::new();
    for (begin, body, least) in TOKENS {
        let _ = write!(pattern, "{}{}[{body}]{{{least},}}|", edge(begin), regex::escape(begin));
    }
    let others: Vec<&str> = OTHERS.iter().map(|(_, pattern)| *pattern).collect();
    Regex::new(&(pattern + &others.join("|"))).expect("tested below")
});

/// The beginning of a token, and the text ends in it.
pub(super) static CUT: LazyLock<Regex> = LazyLock::new(|| {
    let begins: Vec<String> = TOKENS
        .iter()
        .map(|(begin, body, _)| format!("{}{}[{body}]{{3,}}", edge(begin), regex::escape(begin)))
        .collect();
    Regex::new(&format!(r"(?:{}|eyJ[A-Za-z0-9._-]{{5,}})$", begins.join("|"))).expect("tested below")
});

/// The option letter that a found shape begins with, if it does.
pub(super) fn option(shape: &str) -> &str {
    if shape.starts_with('-') { &shape[..2] } else { "" }
}

/// Letters in random order have digits among them; names such as `sk-learn-contrib-package-2` do not.
pub(super) fn plausible(shape: &str) -> bool {
    let Some(body) = shape.strip_prefix("sk-") else { return true };
    body.split(['-', '_']).any(|run| run.len() >= 12 && run.bytes().any(|b| b.is_ascii_digit()))
        || body.len() >= 40 && body.bytes().any(|b| b.is_ascii_digit())
}

fn edge(begin: &str) -> &'static str {
    if begin.len() < 5 { r"(?:\b|^-[A-Za-z])" } else { "" }
}

const ALNUM: &str = "A-Za-z0-9";
const WORD: &str = "A-Za-z0-9_-";
const DOTTED: &str = "A-Za-z0-9_.-";
const UPPER: &str = "A-Z0-9";
const HEX: &str = "a-f0-9";
const BASE64: &str = "A-Za-z0-9+/=_-";
