//! Names under which secrets are kept: `DB_PASSWORD`, `apiKey`, `--client-secret`.

/// Whether a value under this name (of a variable, option or member) is a secret, whatever it is.
#[must_use]
pub(super) fn names_a_secret(name: &str, configured: &[String]) -> bool {
    let lower = name.to_ascii_lowercase();
    if configured.iter().any(|word| lower.contains(word.as_str())) {
        return true;
    }
    let flat: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    let last = last_word(&lower);
    let says_so = SECRET.iter().any(|word| flat.contains(word))
        || LAST.contains(&last) && !DOUBTFUL.contains(&flat.as_str())
        || END.iter().any(|word| flat.ends_with(word))
            && flat != "pwd"
            && !HARMLESS.iter().any(|word| flat.ends_with(word));
    says_so
        && !ABOUT.iter().any(|word| flat.contains(word))
        && !ABOUT_LAST.iter().any(|word| flat.ends_with(word))
}

/// Whether the value under this name is a secret: by the name, or by a name that may be one's and a value that looks it.
#[must_use]
pub(super) fn holds_a_secret(name: &str, value: &str, configured: &[String]) -> bool {
    if is_reference(value) {
        return false;
    }
    if names_a_secret(name, configured) {
        return true;
    }
    let flat: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let bare = value.trim_matches(['"', '\'', '\\']);
    // A working directory, or the password of a connection string.
    flat == "pwd" && !bare.starts_with(['/', '~', '.'])
        || (DOUBTFUL.contains(&flat.as_str())
            || last_word(name).eq_ignore_ascii_case("key")
            || flat.ends_with("tokens"))
            && looks_random(bare)
}

fn last_word(name: &str) -> &str {
    name.rsplit(['_', '-', '.']).next().unwrap_or(name)
}

/// Whether the value only says where the secret is: `$TOKEN`, `${{ secrets.X }}`, `$(pass x)`, or is masked already.
#[must_use]
pub(super) fn is_reference(value: &str) -> bool {
    let bare = value.trim_matches(['"', '\'', '\\']);
    bare.is_empty()
        || bare == super::MASK
        || matches!(bare, "true" | "false" | "null" | "0" | "1" | "2")
        || is_variable(bare)
}

/// `$ecret` is a secret, `$SECRET` a variable, and `${SECRET:-x}` has a secret in it.
fn is_variable(value: &str) -> bool {
    let Some(rest) = value.strip_prefix('$') else { return false };
    let name = rest.strip_prefix('{').map_or(rest, |inner| inner.split('}').next().unwrap_or(inner));
    if rest.is_empty() || rest.starts_with('(') || rest.starts_with("{{") {
        return true;
    }
    name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// Letters and digits that take turns, as in what a machine has drawn.
#[must_use]
pub(super) fn looks_random(value: &str) -> bool {
    let kind = |b: u8| match b {
        b'0'..=b'9' => 1_u8,
        b'a'..=b'z' => 2,
        b'A'..=b'Z' => 3,
        _ => 0,
    };
    let turns = value.as_bytes().windows(2).filter(|pair| kind(pair[0]) != kind(pair[1])).count();
    value.len() >= 16
        && turns >= 5
        && value.bytes().any(|b| b.is_ascii_digit())
        && value.bytes().any(|b| b.is_ascii_alphabetic())
        && !value.starts_with(['/', '.', '~'])
        && !value.contains(char::is_whitespace)
}

/// In any part of the name, without its separators.
const SECRET: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "apikey",
    "appkey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "authkey",
    "masterkey",
    "accountkey",
    "credential",
    "connectionstring",
    "sessionid",
    "signature",
];

/// As the last word of the name.
const LAST: &[&str] = &["pw", "pat", "auth", "passwort", "psk", "sig", "bearer"];

/// As the end of the name: `storepass`, `dbpwd`.
const END: &[&str] = &["pass", "pwd", "rootpw", "userpw", "adminpw"];

/// Names that end like one and hold none.
const HARMLESS: &[&str] = &["oldpwd", "bypass", "compass", "lowpass", "highpass", "bandpass", "multipass"];

/// Names that may be one's: the value decides.
const DOUBTFUL: &[&str] = &["key", "auth", "pat", "sid", "session", "sas", "code", "license"];

/// A name with one of these speaks about secrets and holds none.
const ABOUT: &[&str] = &["tokens", "tokeniz", "nopassword", "keyboard", "secretname", "tokentype"];

/// As the end of the name, likewise.
const ABOUT_LAST: &[&str] = &[
    "file",
    "path",
    "dir",
    "stdin",
    "env",
    "name",
    "url",
    "uri",
    "type",
    "ttl",
    "length",
    "len",
    "limit",
    "count",
    "keyid",
    "store",
    "provider",
    "policy",
    "expiry",
    "prompt",
    "command",
    "helper",
    "class",
    "manager",
    "algorithm",
    "version",
];
