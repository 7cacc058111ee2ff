//! The daemon's own settings: `chaperone.yaml`, kind `Daemon`. Everything has a default.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    document::ApiVersion,
    fields::{self, Fields},
    files::Documents,
    problem::{Place, Problem, Problems, quoted},
    sinks::{self, Sinks},
    yaml::Node,
};

/// Settings of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Holds `agents/` and `roles/`.
    pub config_dir: PathBuf,
    /// What the program itself makes and must find again.
    pub state_dir: PathBuf,
    /// Where maps and links are pinned, so that what is enforced outlives the daemon; a directory of a BPF file system.
    /// `off`: it ends with the daemon.
    #[serde(serialize_with = "path_or_off")]
    #[schemars(with = "String")]
    pub pin_dir: Option<PathBuf>,
    /// Events, one JSON object a line.
    pub events_file: PathBuf,
    /// At this size the events file is closed as a segment of the journal and begun anew; 0 for never.
    pub events_file_bytes_max: u64,
    /// How long closed segments of the journal are kept.
    pub journal: Keep,
    /// Where the command line reaches the daemon.
    pub control_socket: PathBuf,
    /// Members of this group (name or number) may use the control socket too; without it root alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_group: Option<String>,
    /// What is recorded of whom. All of it is labelled and counted in any case.
    pub record: Record,
    /// Programs that open a terminal before anyone has logged in: that terminal does not make them a person.
    /// Those that do not exist are passed over.
    pub login_programs: Vec<PathBuf>,
    /// Whether the built-in catalogue recognises known agents that nobody registered: they are observed, and never
    /// refused anything.
    pub catalogue: Catalogue,
    /// Resolvers that containers are configured for: their answers give addresses names in whatever network namespace they
    /// are asked from, beside those of the host's own `resolv.conf` in the host's.
    #[schemars(with = "Vec<String>")]
    pub resolvers: Vec<IpAddr>,
    /// What counts as usual for a role, and how serious what is not.
    pub baselines: Baselines,
    /// Where events go beside the event file, by name.
    #[serde(skip_serializing_if = "Sinks::is_empty")]
    pub sinks: Sinks,
    /// Words beside the built-in ones: an option or variable whose name contains one (in any case) has its value masked.
    pub mask_words: Vec<String>,
}

agent_common::vocabulary! {
    /// Whether the built-in catalogue is used.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum Catalogue { On = 1 => "on", Off = 2 => "off", }
}

agent_common::vocabulary! {
    /// How much of a program's arguments is recorded; there is no word for all of them unmasked.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum Arguments { None = 1 => "none", Program = 2 => "program", Masked = 3 => "masked", }
}

/// What is recorded, by origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Record {
    pub agent: Recorded,
    pub human: Recorded,
    /// What touches an agent is recorded in any case.
    pub system: Recorded,
}

/// How long closed segments of the journal are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// Segments that are older go.
    pub keep_days: u64,
    /// What goes earlier, because there is no room, is told.
    pub keep_days_min: u64,
    /// Room for all segments; 0 for a tenth of the file system.
    pub bytes_max: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { keep_days: 366, keep_days_min: 183, bytes_max: 0 }
    }
}

/// What counts as usual for a role, and how serious what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Baselines {
    pub support: Support,
    /// A table of severities in place of the built-in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severities: Option<PathBuf>,
}

/// What a behaviour needs to count as usual: so many instances, and so many days or hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Support {
    pub instances: usize,
    pub days: usize,
    pub hosts: usize,
}

impl Default for Support {
    fn default() -> Self {
        Self { instances: 3, days: 2, hosts: 2 }
    }
}

/// What is recorded of one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Exec, exit.
    pub processes: bool,
    /// Connects and sends.
    pub network: bool,
    /// How much of the arguments of an exec. The environment is never recorded.
    pub argv: Arguments,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            config_dir: "/etc/chaperone".into(),
            state_dir: "/var/lib/chaperone".into(),
            pin_dir: Some("/sys/fs/bpf/chaperone".into()),
            events_file: "/var/log/chaperone/events.ndjson".into(),
            events_file_bytes_max: 64 << 20,
            journal: Keep::default(),
            control_socket: "/run/chaperone/control.sock".into(),
            control_group: None,
            record: Record::default(),
            login_programs: LOGIN_PROGRAMS.iter().map(PathBuf::from).collect(),
            catalogue: Catalogue::On,
            resolvers: Vec::new(),
            baselines: Baselines::default(),
            sinks: Sinks::new(),
            mask_words: Vec::new(),
        }
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            agent: Recorded { processes: true, network: true, argv: Arguments::Masked },
            human: Recorded { processes: true, network: true, argv: Arguments::None },
            system: Recorded { processes: false, network: false, argv: Arguments::None },
        }
    }
}

impl Record {
    /// A number for what is recorded, and by which version: with another one records make other lines.
    #[must_use]
    pub fn maker(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (env!("CARGO_PKG_VERSION"), format!("{self:?}")).hash(&mut hasher);
        hasher.finish()
    }
}

impl Config {
    /// The settings in a file; the defaults where there is no such file.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let (mut documents, mut problems) = Documents::read_file_if_any(path);
        let others = documents.agents.len() + documents.roles.len();
        if others > 0 {
            let place = Place::file(&path.display().to_string());
            let remedy = "agents and roles belong below agents/ and roles/";
            problems.push(Problem::new(&place, "holds agents or roles beside the settings", remedy));
        }
        let config = documents.daemon.take().map(|(config, _)| config).unwrap_or_default();
        problems.settle(config, &documents.texts)
    }
}

/// The document of kind `Daemon`, for the JSON Schema.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonDocument {
    #[serde(rename = "apiVersion")]
    pub api_version: ApiVersion,
    pub kind: DaemonKind,
    pub spec: Config,
}

agent_common::vocabulary! {
    #[derive(Serialize, JsonSchema)]
    pub enum DaemonKind { Daemon = 1 => "Daemon", }
}

/// The `spec` of a document of kind `Daemon`.
pub fn config(node: &Node, problems: &mut Problems) -> Option<Config> {
    let mut config = Config::default();
    let mut fields = Fields::of(node, "the daemon's spec", problems)?;
    let paths = [
        ("config_dir", &mut config.config_dir),
        ("state_dir", &mut config.state_dir),
        ("events_file", &mut config.events_file),
        ("control_socket", &mut config.control_socket),
    ];
    for (name, setting) in paths {
        if let Some(path) = fields.get(name).and_then(|node| absolute(node, name, problems)) {
            *setting = path;
        }
    }
    if let Some(node) = fields.get("pin_dir") {
        config.pin_dir = match fields::text(node, "pin_dir", problems).as_deref() {
            Some(OFF) => None,
            Some(_) => absolute(node, "pin_dir", problems),
            None => config.pin_dir,
        };
    }
    if let Some(node) = fields.get("events_file_bytes_max") {
        let bytes = fields::number(node, "events_file_bytes_max", 0, u64::MAX, problems)?;
        config.events_file_bytes_max = bytes;
        if bytes > 0 && bytes < EVENTS_FILE_BYTES_MIN {
            let what = format!("events_file_bytes_max cannot be {bytes}");
            let remedy = format!("at least {EVENTS_FILE_BYTES_MIN}, or 0 for no bound");
            problems.push(Problem::new(&node.place, what, remedy));
        }
    }
    if let Some(node) = fields.get("journal") {
        journal(node, &mut config.journal, problems);
    }
    config.control_group = fields.get("control_group").and_then(|node| group(node, problems));
    if let Some(node) = fields.get("record") {
        record(node, &mut config.record, problems);
    }
    if let Some(node) = fields.get("login_programs") {
        let items = fields::items(node, "login_programs", problems);
        config.login_programs =
            items.iter().filter_map(|n| absolute(n, "a login program", problems)).collect();
    }
    if let Some(node) = fields.get("catalogue") {
        let words: Vec<_> = Catalogue::ALL.iter().map(|word| (word.name(), *word)).collect();
        config.catalogue = fields::word(node, "catalogue", &words, problems)?;
    }
    if let Some(node) = fields.get("resolvers") {
        let items = fields::items(node, "resolvers", problems);
        config.resolvers = items.iter().filter_map(|n| resolver(n, problems)).collect();
        if items.len() > RESOLVERS_MAX {
            let what = format!("{} resolvers, at most {RESOLVERS_MAX}", items.len());
            problems.push(Problem::new(&node.place, what, "name those that agents' containers ask"));
        }
    }
    if let Some(node) = fields.get("baselines") {
        baselines(node, &mut config.baselines, problems);
    }
    if let Some(node) = fields.get("sinks") {
        config.sinks = sinks::sinks(node, &config.events_file, problems);
    }
    if let Some(node) = fields.get("mask_words") {
        let items = fields::items(node, "mask_words", problems);
        config.mask_words = items.iter().filter_map(|n| mask_word(n, problems)).collect();
    }
    fields.finish(problems);
    Some(config)
}

fn record(node: &Node, record: &mut Record, problems: &mut Problems) {
    let Some(mut fields) = Fields::of(node, "record", problems) else { return };
    let origins =
        [("agent", &mut record.agent), ("human", &mut record.human), ("system", &mut record.system)];
    for (name, recorded) in origins {
        let Some(mut of) = fields.get(name).and_then(|node| Fields::of(node, name, problems)) else {
            continue;
        };
        if let Some(argv) = of.get("argv").and_then(|node| arguments(node, problems)) {
            recorded.argv = argv;
        }
        let switches = [("processes", &mut recorded.processes), ("network", &mut recorded.network)];
        for (name, switch) in switches {
            if let Some(value) = of.get(name).and_then(|node| fields::boolean(node, name, problems)) {
                *switch = value;
            }
        }
        of.finish(problems);
    }
    fields.finish(problems);
}

/// `true` and `false` are other words for `masked` and `none`.
fn arguments(node: &Node, problems: &mut Problems) -> Option<Arguments> {
    if node.data.kind() == "a boolean" {
        let all = fields::boolean(node, "argv", problems)?;
        return Some(if all { Arguments::Masked } else { Arguments::None });
    }
    let words: Vec<_> = Arguments::ALL.iter().map(|word| (word.name(), *word)).collect();
    fields::word(node, "argv", &words, problems)
}

fn baselines(node: &Node, baselines: &mut Baselines, problems: &mut Problems) {
    let Some(mut fields) = Fields::of(node, "baselines", problems) else { return };
    if let Some(mut of) = fields.get("support").and_then(|node| Fields::of(node, "support", problems)) {
        let Support { instances, days, hosts } = &mut baselines.support;
        for (name, count) in [("instances", instances), ("days", days), ("hosts", hosts)] {
            let number = of.get(name).and_then(|node| fields::number(node, name, 1, SUPPORT_MAX, problems));
            if let Some(number) = number.and_then(|number| usize::try_from(number).ok()) {
                *count = number;
            }
        }
        of.finish(problems);
    }
    baselines.severities = fields.get("severities").and_then(|node| absolute(node, "severities", problems));
    fields.finish(problems);
}

fn journal(node: &Node, keep: &mut Keep, problems: &mut Problems) {
    let Some(mut fields) = Fields::of(node, "journal", problems) else { return };
    let numbers = [
        ("keep_days", &mut keep.keep_days, 1, KEEP_DAYS_MAX),
        ("keep_days_min", &mut keep.keep_days_min, 0, KEEP_DAYS_MAX),
        ("bytes_max", &mut keep.bytes_max, 0, u64::MAX),
    ];
    for (name, setting, least, most) in numbers {
        let number = fields.get(name).and_then(|node| fields::number(node, name, least, most, problems));
        *setting = number.unwrap_or(*setting);
    }
    fields.finish(problems);
}

fn path_or_off<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_deref().unwrap_or(Path::new(OFF)).serialize(serializer)
}

pub(super) fn absolute(node: &Node, what: &'static str, problems: &mut Problems) -> Option<PathBuf> {
    let text = fields::text(node, what, problems)?;
    if text.starts_with('/') {
        return Some(PathBuf::from(text));
    }
    let fault = format!("{what} cannot be {}", quoted(&text));
    problems.push(Problem::new(&node.place, fault, "write an absolute path"));
    None
}

/// A group may be given by number, which YAML need not quote here.
fn group(node: &Node, problems: &mut Problems) -> Option<String> {
    if node.data.kind() == "a number" {
        return fields::number(node, "control_group", 0, u64::from(u32::MAX - 1), problems)
            .map(|gid| gid.to_string());
    }
    fields::text(node, "control_group", problems)
}

fn resolver(node: &Node, problems: &mut Problems) -> Option<IpAddr> {
    let text = fields::text(node, "a resolver", problems)?;
    let address = text.parse().ok();
    if address.is_none() {
        let what = format!("a resolver cannot be {}", quoted(&text));
        problems.push(Problem::new(
            &node.place,
            what,
            "write its address, without a port: it is asked at 53",
        ));
    }
    address
}

fn mask_word(node: &Node, problems: &mut Problems) -> Option<String> {
    let word = fields::text(node, "a mask word", problems)?;
    if word.trim().len() < MASK_WORD_BYTES_MIN {
        let what = format!("a mask word cannot be {}", quoted(&word));
        problems.push(Problem::new(
            &node.place,
            what,
            "at least three characters, or it masks nearly everything",
        ));
        return None;
    }
    Some(word)
}

const LOGIN_PROGRAMS: &[&str] = &[
    "/sbin/agetty",
    "/usr/sbin/agetty",
    "/bin/login",
    "/usr/bin/login",
    "/usr/sbin/sshd",
    // OpenSSH from 9.8 on hands a connection to a program of its own.
    "/usr/lib/openssh/sshd-session",
    "/usr/libexec/openssh/sshd-session",
];
const OFF: &str = "off";
/// Half of what the kernel side has room for: the other half is the host's own.
const RESOLVERS_MAX: usize = agent_common::limits::RESOLVERS_MAX as usize / 2;
/// A baseline keeps 32 pairs of a day and an instance of what it has seen, and at least eight days.
const SUPPORT_MAX: u64 = 8;
/// A century.
const KEEP_DAYS_MAX: u64 = 36_525;
/// Digits of the number in a segment's name, so that names sort as their numbers do.
pub const SEGMENT_DIGITS: usize = 20;
const EVENTS_FILE_BYTES_MIN: u64 = 1 << 20;
const MASK_WORD_BYTES_MIN: usize = 3;
