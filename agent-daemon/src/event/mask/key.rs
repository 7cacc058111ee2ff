//! Names under which secrets are kept: `DB_PASSWORD`, `apiKey`, `--client-secret`.

/// Whether a value under this name (of a variable, option or member) is a secret.
#[must_use]
pub(super) fn names_a_secret(name: &str, configured: &[String]) -> bool {
    let mut flat = [0_u8; 64];
    let mut len = 0;
    for byte in name.bytes().filter(u8::is_ascii_alphanumeric) {
        if len == flat.len() {
            break;
        }
        flat[len] = byte.to_ascii_lowercase();
        len += 1;
    }
    let flat = std::str::from_utf8(&flat[..len]).unwrap_or_default();
    let last = name.rsplit(['_', '-', '.']).next().unwrap_or(name);
    let says_so = SECRET.iter().any(|word| flat.contains(word))
        || LAST.iter().any(|word| last.eq_ignore_ascii_case(word)) && !HARMLESS.contains(&flat);
    if configured.iter().any(|word| name.to_ascii_lowercase().contains(word.as_str())) {
        return true;
    }
    says_so
        && !ABOUT.iter().any(|word| flat.contains(word))
        && !ABOUT_LAST.iter().any(|word| flat.ends_with(word))
}

/// Whether the value only says where the secret is: `$TOKEN`, `${{ secrets.X }}`, `@file`, already masked.
#[must_use]
pub(super) fn is_reference(value: &str) -> bool {
    let bare = value.trim_matches(['"', '\'', '\\']);
    bare.is_empty()
        || bare.starts_with('$')
        || bare == super::MASK
        || matches!(bare, "true" | "false" | "null")
}

/// In any part of the name, without its separators.
const SECRET: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "authkey",
    "masterkey",
    "accountkey",
    "credential",
    "connectionstring",
];

/// As the last word of the name.
const LAST: &[&str] = &["pass", "pwd", "pw", "pat", "auth", "passwort", "psk"];

/// Names that end like one and hold none.
const HARMLESS: &[&str] = &["pwd", "oldpwd", "pat", "auth"];

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
];
