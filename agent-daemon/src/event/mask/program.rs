//! Options by which programs take secrets: `--password X`, and the short ones of programs known for it.

use super::{MASK, Masks, key};

/// Goes along a command's arguments, remembering whether the next one is a secret.
pub(super) struct Words<'a> {
    masks: &'a Masks,
    program: &'a str,
    next: Next,
}

#[derive(Clone, Copy, PartialEq)]
enum Next {
    Plain,
    Secret,
    UserAndSecret,
}

impl<'a> Words<'a> {
    /// For the arguments of `program` (a path or a name).
    pub(super) fn of(masks: &'a Masks, program: &'a str) -> Self {
        Self { masks, program: program.rsplit('/').next().unwrap_or(program), next: Next::Plain }
    }

    /// The argument without its secret, when it is one by what came before it or by its own option letter.
    pub(super) fn next(&mut self, arg: &str) -> Option<String> {
        match std::mem::replace(&mut self.next, Next::Plain) {
            Next::Secret if !arg.starts_with('-') && !key::is_reference(arg) => return Some(MASK.to_owned()),
            Next::UserAndSecret => {
                let (user, secret) = arg.split_once(':')?;
                return (!key::is_reference(secret)).then(|| format!("{user}:{MASK}"));
            }
            Next::Plain | Next::Secret => {}
        }
        if !arg.starts_with('-') {
            return None;
        }
        if let Some((_, option, style)) = OPTIONS
            .iter()
            .find(|(programs, option, _)| arg.starts_with(option) && programs.contains(&self.program))
        {
            match (style, arg.len() == option.len()) {
                (Style::Attached, false) | (Style::Both, false) => return Some(format!("{option}{MASK}")),
                (Style::Next | Style::Both, true) => self.next = Next::Secret,
                (Style::User, true) => self.next = Next::UserAndSecret,
                _ => {}
            }
        }
        if self.next == Next::Plain && !arg.contains('=') && self.masks.hints(arg) != 0 {
            let name = arg.trim_start_matches('-');
            if !name.starts_with("no-") && self.masks.names_a_secret(name) {
                self.next = Next::Secret;
            }
        }
        None
    }
}

/// A command line inside one argument (`sh -c '…'`): each word as if it were an argument.
pub(super) fn command_line(masks: &Masks, text: &str) -> Option<String> {
    let mut out = String::new();
    let mut changed = false;
    let mut words: Option<Words> = None;
    for piece in text.split_inclusive(|c: char| c.is_whitespace() || matches!(c, ';' | '|' | '&' | '(')) {
        let word = piece.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ';' | '|' | '&' | '('));
        let bare = word.trim_matches(['"', '\'']);
        let replaced = match &mut words {
            _ if bare.is_empty() => None,
            None if bare.contains('=') => None,
            None => {
                words = Some(Words::of(masks, bare));
                None
            }
            Some(words) => words.next(bare),
        };
        match replaced {
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

/// How a program takes a secret by an option.
#[derive(Clone, Copy)]
enum Style {
    /// In the same argument: `-pSECRET`.
    Attached,
    /// As the next argument.
    Next,
    /// Either.
    Both,
    /// `USER:SECRET` as the next argument.
    User,
}

/// Programs, their option, and how it takes the secret. Options that name it (`--password`) need no line here.
const OPTIONS: &[(&[&str], &str, Style)] = &[
    (
        &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mysqlimport",
            "mysqlcheck",
            "mysqlsh",
            "mariadb",
            "mariadb-dump",
        ],
        "-p",
        Style::Attached,
    ),
    (&["sshpass", "mongo", "mongosh", "mongodump", "mongorestore", "7z", "7za", "7zz"], "-p", Style::Both),
    (&["redis-cli", "valkey-cli"], "-a", Style::Next),
    (&["ldapsearch", "ldapmodify", "ldapadd", "ldapwhoami"], "-w", Style::Both),
    (&["zip", "unzip"], "-P", Style::Next),
    (&["sqlcmd", "bcp", "rdesktop"], "-P", Style::Both),
    (&["curl"], "--user", Style::User),
    (&["curl"], "--proxy-user", Style::User),
    (&["curl"], "-u", Style::User),
    (&["curl"], "-U", Style::User),
    (&["openssl"], "-passin", Style::Next),
    (&["openssl"], "-passout", Style::Next),
    (&["openssl"], "-pass", Style::Next),
];
