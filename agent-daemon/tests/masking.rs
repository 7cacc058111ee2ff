//! Secrets in arguments, against a corpus of the forms in which people and programs pass them: none is recorded, and what
//! stands around them is. All of them are invented, and put together here from parts, so that no file holds a whole one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Instant;

use chaperone::event::mask::{MASK, Masks};
use serde::Deserialize;

#[derive(Deserialize)]
struct Corpus {
    /// Tokens that are known by their shape, wherever they stand.
    tokens: Vec<Token>,
    /// Ways to pass a secret of any shape; `{0}` stands for the first of `secrets`.
    forms: Vec<Form>,
    /// What has no secret and is recorded as it is.
    innocent: Vec<Vec<String>>,
    /// Secrets that are not found: known, so that nobody believes otherwise.
    missed: Vec<Missed>,
}

#[derive(Deserialize)]
struct Token {
    what: String,
    parts: Vec<String>,
}

#[derive(Deserialize)]
struct Form {
    what: String,
    argv: Vec<String>,
    secrets: Vec<Vec<String>>,
    kept: Vec<String>,
    #[serde(default)]
    cut: bool,
}

#[derive(Deserialize)]
struct Missed {
    what: String,
    argv: Vec<String>,
}

fn corpus() -> Corpus {
    serde_json::from_str(include_str!("masking/corpus.json")).unwrap()
}

fn masked(masks: &Masks, argv: &[String], cut: bool) -> Vec<String> {
    let mut argv: Vec<Box<str>> = argv.iter().map(|arg| arg.as_str().into()).collect();
    masks.mask(&mut argv, cut);
    argv.into_iter().map(String::from).collect()
}

fn filled(form: &Form) -> Vec<String> {
    let secrets: Vec<String> = form.secrets.iter().map(|parts| parts.concat()).collect();
    let fill = |arg: &String| {
        secrets
            .iter()
            .enumerate()
            .fold(arg.clone(), |arg, (at, secret)| arg.replace(&format!("{{{at}}}"), secret))
    };
    form.argv.iter().map(fill).collect()
}

/// Places where a token may stand without anything that names it.
fn places(token: &str) -> Vec<Vec<String>> {
    let argv = |args: &[&str]| args.iter().map(|arg| arg.replace("{}", token)).collect();
    vec![
        argv(&["x", "{}"]),
        argv(&["x", "-k{}"]),
        argv(&["x", "--value={}"]),
        argv(&["{}"]),
        argv(&["env", "SOME={}", "make"]),
        argv(&["sh", "-c", "echo {} | login"]),
        argv(&["sh", "-c", "echo '{}' > f"]),
        argv(&["curl", "-d", r#"{"a":"{}"}"#, "https://h/"]),
        argv(&["curl", "https://h/a/{}/b"]),
        argv(&["curl", "https://h/?a={}&b=c"]),
    ]
}

#[test]
fn tokens_of_a_known_shape_are_found_wherever_they_stand() {
    let masks = Masks::default();
    let mut wrong = Vec::new();
    for Token { what, parts } in corpus().tokens {
        let token = parts.concat();
        let body = parts.last().unwrap();
        for argv in places(&token) {
            let seen = masked(&masks, &argv, false);
            if seen.iter().any(|arg| arg.contains(body.as_str()))
                || !seen.iter().any(|arg| arg.contains(MASK))
            {
                wrong.push(format!("{what}: {seen:?}"));
            }
        }
        // Cut in the middle: a dozen letters of the body are too many.
        let cut = format!("{}{}", parts[0], &body[..12.min(body.len())]);
        let shaped = !token.contains("://")
            && !what.contains("Telegram")
            && !what.contains("Entra")
            && !what.contains("Terraform");
        if shaped && masked(&masks, &["x".to_owned(), cut.clone()], true)[1] == cut {
            wrong.push(format!("{what}, cut: {cut}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn secrets_in_every_form_are_masked_and_what_stands_around_is_kept() {
    let masks = Masks::default();
    let mut wrong = Vec::new();
    for form in corpus().forms {
        let argv = filled(&form);
        let seen = masked(&masks, &argv, form.cut);
        let text = seen.join("\n");
        for secret in &form.secrets {
            if secret.concat().len() > 6 && text.contains(&secret.concat()) {
                wrong.push(format!("{}: recorded: {seen:?}", form.what));
            }
        }
        for kept in form.kept.iter().filter(|kept| !text.contains(kept.as_str())) {
            wrong.push(format!("{}: lost {kept:?}: {seen:?}", form.what));
        }
        assert_eq!(seen.len(), argv.len());
        // Who reads `chaperone events` of a masked line again gets the same.
        if masked(&masks, &seen, form.cut) != seen {
            wrong.push(format!("{}: again: {:?}", form.what, masked(&masks, &seen, form.cut)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_no_secret_is_recorded_as_it_is() {
    let masks = Masks::default();
    let innocent = corpus().innocent;
    let changed = innocent.iter().map(|argv| (argv, masked(&masks, argv, false)));
    let wrong: Vec<_> = changed.filter(|(argv, seen)| *argv != seen).map(|(_, seen)| seen).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// When one of these is found some day, it moves to `forms`, and out of docs/THREATS.md.
#[test]
fn what_is_known_to_be_missed_is_told() {
    let masks = Masks::default();
    let threats = include_str!("../../docs/THREATS.md");
    for Missed { what, argv } in corpus().missed {
        assert_eq!(masked(&masks, &argv, false), argv, "{what} is found now");
        assert!(threats.contains(&what), "docs/THREATS.md does not say: {what}");
    }
}

/// Not a bound, a figure: `cargo test --release -p agent-daemon --test masking -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn what_a_pass_costs() {
    let masks = Masks::default();
    let corpus = corpus();
    let forms: Vec<Vec<String>> = corpus.forms.iter().map(filled).collect();
    for (name, set) in [("innocent", &corpus.innocent), ("secrets", &forms)] {
        let rounds = 200;
        let copies: Vec<Vec<Box<str>>> =
            set.iter().map(|argv| argv.iter().map(|arg| arg.as_str().into()).collect()).collect();
        let mut work = vec![copies; rounds];
        let begin = Instant::now();
        for argv in work.iter_mut().flatten() {
            masks.mask(argv, false);
        }
        let each = begin.elapsed().as_nanos() / (rounds * set.len()) as u128;
        println!("{name}: {each} ns an exec");
    }
}
