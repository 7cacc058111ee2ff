//! Options by which programs take secrets: `--password X`, and the short ones of programs known for it.

use super::{MASK, Masks, key};

/// Goes along a command's arguments, remembering whether the next one is a secret.
pub(super) struct Words<'a> {
    masks: &'a Masks,
    program: &'a str,
    /// `login` has been seen: `-p` is a password then, and no port.
    login: bool,
    /// `set` has been seen, of a program that sets by name and value.
    set: bool,
    next: Next,
}

#[derive(Clone, Copy, PartialEq)]
enum Next {
    Plain,
    Secret,
    UserAndSecret,
    Cookies,
    Header,
    /// The name of a container or host, which may be a program's.
    Name,
}

impl<'a> Words<'a> {
    /// For the arguments of `program` (a path or a name).
    pub(super) fn of(masks: &'a Masks, program: &'a str) -> Self {
        let program = base(program);
        Self { masks, program, login: false, set: TOLD.contains(&program), next: Next::Plain }
    }

    /// The argument without its secret, when it is one by what came before it or by its own option letter.
    pub(super) fn next(&mut self, arg: &str) -> Option<String> {
        let before = std::mem::replace(&mut self.next, Next::Plain);
        match before {
            Next::Secret if !looks_like_an_option(arg) && !key::is_reference(arg) => {
                return Some(MASK.to_owned());
            }
            Next::UserAndSecret => return user_and_secret(arg),
            Next::Cookies if arg.contains('=') => return Some(MASK.to_owned()),
            Next::Header => return header(self.masks, arg),
            _ => {}
        }
        if !arg.starts_with('-') {
            self.positional(arg, before);
            return None;
        }
        if NAMING.contains(&arg) {
            self.next = Next::Name;
        }
        let option = OPTIONS
            .iter()
            .filter(|(programs, option, _)| arg.starts_with(option) && programs.contains(&self.program));
        // `-p` is the beginning of `-passin`, `--user` that of `--user-agent`.
        if let Some((_, option, style)) = option.max_by_key(|(_, option, _)| option.len()) {
            let rest = &arg[option.len()..];
            match (style, rest.is_empty()) {
                (Style::AfterLogin, _) if !self.login => {}
                (Style::Attached | Style::Both | Style::AfterLogin, false) if !option.starts_with("--") => {
                    return Some(format!("{option}{MASK}"));
                }
                (Style::Next | Style::Both | Style::AfterLogin, true) => self.next = Next::Secret,
                (Style::User, true) => self.next = Next::UserAndSecret,
                (Style::User, false) if !option.starts_with("--") || rest.starts_with('=') => {
                    return user_and_secret(rest).map(|rest| format!("{option}{rest}"));
                }
                (Style::Cookies, true) => self.next = Next::Cookies,
                (Style::Cookies, false) if rest.trim_start_matches('=').contains('=') => {
                    return Some(format!("{option}{}{MASK}", if rest.starts_with('=') { "=" } else { "" }));
                }
                (Style::Header, true) => self.next = Next::Header,
                (Style::Header, false) => {
                    return header(self.masks, rest).map(|rest| format!("{option}{rest}"));
                }
                _ => {}
            }
        }
        // Letters in one argument: `curl -sSu me:secret`.
        if self.next == Next::Plain && self.program == "curl" && is_a_cluster(arg) {
            self.next = match arg.as_bytes().last() {
                Some(b'u' | b'U') => Next::UserAndSecret,
                Some(b'b') => Next::Cookies,
                Some(b'H') => Next::Header,
                _ => Next::Plain,
            };
        }
        if self.next == Next::Plain && !arg.contains('=') && self.masks.hints(arg) != 0 {
            let name = arg.trim_start_matches('-');
            if !name.starts_with("no-") && self.masks.names_a_secret(name) {
                self.next = Next::Secret;
            }
        }
        None
    }

    /// A word that is no option: maybe the program that this one starts, or a name whose value comes next.
    fn positional(&mut self, arg: &str, before: Next) {
        let name = base(arg);
        if before != Next::Name
            && let Some(known) =
                OPTIONS.iter().flat_map(|(programs, ..)| *programs).chain(TOLD).find(|p| **p == name)
        {
            (self.program, self.login, self.set) = (known, false, TOLD.contains(known));
        }
        self.login |= arg == "login";
        if self.set && self.masks.hints(arg) != 0 && !arg.contains('=') && self.masks.names_a_secret(arg) {
            self.next = Next::Secret;
        }
        self.set |= arg == "set" && SETTERS.contains(&self.program);
    }
}

fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// `-x`, `--word`, `--word=…`: an option whose predecessor took no value.
fn looks_like_an_option(arg: &str) -> bool {
    let Some(rest) = arg.strip_prefix('-') else { return false };
    let name = rest.trim_start_matches('-').split('=').next().unwrap_or_default();
    name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-')
}

fn is_a_cluster(arg: &str) -> bool {
    arg.len() > 2 && arg.bytes().skip(1).all(|b| b.is_ascii_alphabetic())
}

/// `USER:SECRET`.
fn user_and_secret(arg: &str) -> Option<String> {
    let (user, secret) = arg.split_once([':', '%'])?;
    let between = &arg[user.len()..=user.len()];
    (!key::is_reference(secret)).then(|| format!("{user}{between}{MASK}"))
}

/// `Name: value` of which the name says that the value is a secret.
fn header(masks: &Masks, arg: &str) -> Option<String> {
    let (name, value) = arg.split_once(':')?;
    let secret = masks.names_a_secret(name.trim())
        || ["auth", "key", "cookie", "sid"].iter().any(|word| name.to_ascii_lowercase().contains(word));
    let (space, value) = value.split_at(value.len() - value.trim_start().len());
    if !secret || key::is_reference(value) {
        return None;
    }
    // What kind of secret it is says something and gives nothing away.
    let scheme = value.split_once(' ').map(|(scheme, _)| scheme).filter(|scheme| is_a_scheme(scheme));
    Some(format!("{name}:{space}{}{MASK}", scheme.map(|s| format!("{s} ")).unwrap_or_default()))
}

fn is_a_scheme(word: &str) -> bool {
    ["bearer", "basic", "token", "digest", "negotiate", "apikey"].contains(&&*word.to_ascii_lowercase())
}

/// A command line inside one argument (`sh -c '…'`): each word as if it were an argument; `inner` looks at what is quoted.
pub(super) fn command_line(
    masks: &Masks,
    text: &str,
    inner: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    let mut out = String::new();
    let mut changed = false;
    let mut words: Option<Words> = None;
    for piece in pieces(text) {
        let word = piece.trim_end_matches(ends_a_word);
        let bare = word.trim_matches(['"', '\'']);
        let quoted = || inner(bare).filter(|_| bare.contains(char::is_whitespace));
        let replaced = match &mut words {
            _ if bare.is_empty() => None,
            None if bare.contains('=') => None,
            None => {
                words = Some(Words::of(masks, bare));
                None
            }
            Some(words) => words.next(bare),
        };
        match replaced.or_else(quoted) {
            Some(text) => {
                out.push_str(&word.replacen(bare, &text, 1));
                changed = true;
            }
            None => out.push_str(word),
        }
        out.push_str(&piece[word.len()..]);
        if piece.ends_with([';', '|', '&', '(', '\n']) {
            words = None;
        }
    }
    changed.then_some(out)
}

/// The words of a command line, each with what ends it. Quotes and backslashes hold a word together, unless a quote has no
/// end: then it was an apostrophe.
fn pieces(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut begin, mut quote, mut ended, mut escaped) = (0, None, false, false);
    for (at, c) in text.char_indices() {
        if ended && !ends_a_word(c) {
            found.push(&text[begin..at]);
            (begin, ended) = (at, false);
        }
        match (quote, c) {
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => escaped = true,
            (Some(q), _) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if text[at + 1..].contains(c) => quote = Some(c),
            (None, _) => ended = ends_a_word(c),
        }
        if ended && matches!(c, ';' | '|' | '&' | '(' | '\n') {
            found.push(&text[begin..at + c.len_utf8()]);
            (begin, ended) = (at + c.len_utf8(), false);
        }
    }
    found.push(&text[begin..]);
    found
}

fn ends_a_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, ';' | '|' | '&' | '(')
}

/// How a program takes a secret by an option.
#[derive(Clone, Copy)]
enum Style {
    /// In the same argument: `-pSECRET`.
    Attached,
    /// As the next argument.
    Next,
    /// Either.
    Both,
    /// Either, behind the word `login`.
    AfterLogin,
    /// `USER:SECRET`, here or next.
    User,
    /// `NAME=SECRET; …`, here or next; without `=` it names a file.
    Cookies,
    /// `NAME: VALUE`, here or next.
    Header,
}

/// Options whose value is the name of something.
const NAMING: &[&str] =
    &["--name", "--hostname", "--network", "--net", "--network-alias", "-n", "--container"];

/// Programs that are told `set NAME VALUE`.
const SETTERS: &[&str] =
    &["aws", "npm", "pnpm", "yarn", "pip", "pip3", "poetry", "gcloud", "pulumi", "snap", "conda"];

const MYSQL: &[&str] = &[
    "mysql",
    "mysqldump",
    "mysqladmin",
    "mysqlimport",
    "mysqlcheck",
    "mysqlsh",
    "mysqlslap",
    "mariadb",
    "mariadb-dump",
    "mariadb-admin",
];

/// Programs that are told `NAME VALUE` anywhere.
const TOLD: &[&str] = &["nmcli"];

const SNMP: &[&str] = &[
    "snmpget",
    "snmpgetnext",
    "snmpwalk",
    "snmpbulkget",
    "snmpbulkwalk",
    "snmpset",
    "snmptable",
    "snmptrap",
    "snmpinform",
    "snmpstatus",
    "snmpdf",
];

/// Programs, their option, and how it takes the secret. Options that name it (`--password`) need no line here.
const OPTIONS: &[(&[&str], &str, Style)] = &[
    (MYSQL, "-p", Style::Attached),
    (&["sshpass", "mongo", "mongosh", "mongodump", "mongorestore", "7z", "7za", "7zz"], "-p", Style::Both),
    (&["nxc", "netexec", "crackmapexec", "evil-winrm", "cqlsh"], "-p", Style::Both),
    (&["hydra", "medusa"], "-p", Style::Both),
    (&["useradd", "usermod", "twine"], "-p", Style::Both),
    (&["rar", "unrar"], "-p", Style::Attached),
    (&["rar", "unrar"], "-hp", Style::Attached),
    (&["ssh-keygen"], "-N", Style::Both),
    (&["ssh-keygen"], "-P", Style::Both),
    (SNMP, "-A", Style::Both),
    (SNMP, "-X", Style::Both),
    (SNMP, "-c", Style::Both),
    (&["mosquitto_pub", "mosquitto_sub", "mosquitto_rr"], "-P", Style::Next),
    (
        &["docker", "podman", "nerdctl", "helm", "oras", "crane", "skopeo", "az", "oc"],
        "-p",
        Style::AfterLogin,
    ),
    (&["redis-cli", "valkey-cli"], "-a", Style::Next),
    (&["ldapsearch", "ldapmodify", "ldapadd", "ldapdelete", "ldapwhoami", "ldappasswd"], "-w", Style::Both),
    (&["zip", "unzip", "ipmitool"], "-P", Style::Both),
    (&["sqlcmd", "bcp", "rdesktop"], "-P", Style::Both),
    (&["xfreerdp", "wlfreerdp"], "-p", Style::Next),
    (&["smbclient", "rpcclient"], "-U", Style::User),
    (&["curl", "smbclient", "rpcclient"], "--user", Style::User),
    (&["curl"], "--proxy-user", Style::User),
    (&["curl"], "-u", Style::User),
    (&["curl"], "-U", Style::User),
    (&["http", "https", "xh", "xhs"], "-a", Style::User),
    (&["http", "https", "xh", "xhs"], "--auth", Style::User),
    (&["curl"], "-b", Style::Cookies),
    (&["curl"], "--cookie", Style::Cookies),
    (&["curl"], "-H", Style::Header),
    (&["curl", "wget"], "--header", Style::Header),
    (&["curl"], "--proxy-header", Style::Header),
    (&["curl"], "--user-agent", Style::Attached),
    (&["curl"], "--cookie-jar", Style::Attached),
    (&["openssl"], "-passin", Style::Next),
    (&["openssl"], "-passout", Style::Next),
    (&["openssl"], "-pass", Style::Next),
    (&["openssl"], "-k", Style::Next),
    (&["openssl"], "-K", Style::Next),
];
