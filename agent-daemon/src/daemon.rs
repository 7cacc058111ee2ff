//! The daemon's life: build, load, put in force, label, serve, run, drain.

mod watch;

use std::{collections::BTreeSet, net::IpAddr, path::Path, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tracing::{debug, info, warn};

use crate::{
    baseline::{compare::Rules, severity::Severities},
    config::{Config, Documents, kept, problem::Problems, settings::Catalogue},
    control::server::{self, Access},
    event::{Kind, mask::Masks},
    identity::{
        catalogue,
        channel::Channels,
        discovery::Running,
        lineage::{Image, Lineage},
        registry::{Agent, Registry},
    },
    kernel::{self, Adopted, Kernel, Leftover},
    pipeline::{
        self, COMMANDS_WAITING_MAX, Inputs, Line, Pipeline, REQUESTS_WAITING_MAX, Request, baselines::Keeper,
        content::Identifier, host, hosts, in_force::InForce, resolvers,
    },
    policy::{self, table::Table},
    record::{
        Recorder,
        journal::{Journal, Settings, key},
        progress::Progress,
        sinks,
    },
};

/// How a daemon is to be run.
#[derive(Clone, Debug)]
pub struct Options {
    pub config: Config,
    pub kernel: kernel::Options,
    /// Where metrics and health are served; `None` for nowhere.
    pub metrics: Option<std::net::SocketAddr>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or cannot go on: systemd starts again what ended so.
pub async fn run(options: Options) -> Result<()> {
    let Options { config, kernel, metrics } = options;
    let known = known(&config)?;
    let rules = rules(&config)?;
    let (mut registry, table, rejected) = configuration(&config)?;
    registry.recognise_too(&known);
    debug!("the configuration is read");
    let named = table.reads_names().then(Named::read);
    let Started { mut kernel, found, left } =
        put_in_force(&kernel, &config, &registry, &table, named.as_ref()).or_else(|error| {
            if !error.is::<kernel::LsmRefused>() {
                return Err(error);
            }
            let why = format!("{error:#}");
            warn!(error = why, "BPF LSM is active, and its programs are not taken: cgroup mode refuses less");
            let cgroup = kernel::Options { without_lsm: Some(why), ..kernel };
            put_in_force(&cgroup, &config, &registry, &table, named.as_ref())
        })?;
    // Only now: the reader's thread would be born of a process that has no label yet.
    let mut events = kernel.events().context("open the ring buffer")?;

    let mut pipeline = build(&config, kernel, InForce::new(registry, table), rules)?;
    pipeline.known = known;
    pipeline.open_baselines();
    let (identifier, identified) =
        Identifier::start().context("start the thread that identifies programs")?;
    pipeline.line.identifier = Some(identifier);
    if let Some(Named { hosts, resolvers }) = named {
        pipeline.know_hosts(&hosts);
        pipeline.know_resolvers(resolvers);
    }
    // Before anything is written: sinks look where the file ends that the daemon before has left.
    let journal = pipeline.line.recorder.journal.as_ref().context("there is no journal to send from")?;
    pipeline.sinks = sinks::start(&config.sinks, &config.events_file, &journal.extent(), &config.state_dir)?;
    pipeline.take_over(&mut events, left);
    let (commands_in, commands) = mpsc::channel(COMMANDS_WAITING_MAX);
    let (requests_in, requests) = mpsc::channel(REQUESTS_WAITING_MAX);
    let (shutdown_in, shutdown) = mpsc::channel(1);
    let access = Access::of(config.control_group.as_deref())?;
    let socket = server::bind(&config.control_socket, &access)
        .with_context(|| format!("listen on {}", config.control_socket.display()))?;
    let masks = Masks::with_words(&config.mask_words);
    tokio::spawn(server::serve(socket, access, masks, commands_in.clone()));
    if let Some(address) = metrics {
        match TcpListener::bind(address).await {
            Ok(listener) => drop(tokio::spawn(server::serve_metrics(listener, commands_in))),
            Err(error) => {
                warn!(%address, %error, "metrics are not served here; `chaperone metrics` still answers")
            }
        }
    }
    tokio::spawn(watch::configuration(&config.config_dir, requests_in.clone()));
    tokio::spawn(watch::identifying_files(pipeline.watched(), requests_in.clone()));
    tokio::spawn(reload_on_signal(requests_in)?);
    tokio::spawn(end_on_signal(shutdown_in)?);

    pipeline.tell_daemon(Kind::DaemonStarted);
    pipeline.tell_policy(Kind::PolicyChanged, "start", Vec::new());
    pipeline.tell_guarantees(&config.state_dir);
    if let Some(problems) = rejected {
        pipeline.reject("start", problems.0.iter().map(|p| p.to_string().into()).collect());
    }
    pipeline.tell_found(&found);
    host::give_back_memory();
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    info!(mode = ?pipeline.kernel.mode(), agents = pipeline.in_force.agents(), roles = pipeline.in_force.roles(), "ready");

    let end = pipeline.run(Inputs { events, commands, requests, identified, shutdown }).await;

    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
    pipeline.tell_daemon(Kind::DaemonStopped);
    let _ = std::fs::remove_file(&config.control_socket);
    // Followers read the last events and then the end, not a connection that breaks.
    pipeline.line.recorder.end();
    tokio::time::sleep(LAST_WORDS).await;
    info!("ended");
    end
}

/// What this host says of names, where a role has some.
struct Named {
    hosts: hosts::Reading,
    resolvers: BTreeSet<IpAddr>,
}

impl Named {
    fn read() -> Self {
        Self { hosts: hosts::Reading::now(), resolvers: resolvers::configured() }
    }
}

/// The kernel side with everything in force.
struct Started {
    kernel: Kernel,
    /// The agents that ran already.
    found: Vec<Running>,
    /// What daemons with another contract have not recorded.
    left: Vec<Leftover>,
}

/// Puts everything in force. What follows comes first, for it is what makes an exec known, and what refuses when there
/// is a label to refuse by. Where something is in force already it must have the rules before it knows of new agents.
fn put_in_force(
    options: &kernel::Options,
    config: &Config,
    registry: &Registry,
    table: &Table,
    named: Option<&Named>,
) -> Result<Started> {
    let mut kernel = Kernel::load(options, config).context("load the kernel side")?;
    let apply = |kernel: &mut Kernel| {
        if let Some(named) = named {
            hosts::honour(kernel, table, &named.hosts);
        }
        kernel.apply(table, registry).context("put the configuration in force")?;
        if let Some(named) = named {
            resolvers::believe(kernel, &named.resolvers);
        }
        debug!("the configuration is in force");
        anyhow::Ok(())
    };
    let first = kernel.adopted() == Adopted::Nothing;
    if !first {
        apply(&mut kernel)?;
    }
    kernel.follow(registry).context("attach what follows processes")?;
    let found = kernel.label_existing().context("label what runs already")?;
    debug!("all that runs is labelled");
    if first {
        apply(&mut kernel)?;
    }
    kernel.enforce().context("attach what refuses")?;
    let left = kernel.retire_others().context("detach what another build has left")?;
    Ok(Started { kernel, found, left })
}

/// The configuration as the files have it; or, with what is wrong with them, the one that was in force last.
fn configuration(config: &Config) -> Result<(Registry, Table, Option<Problems>)> {
    let (documents, found) = Documents::read(&config.config_dir, Some(&config.state_dir));
    let problems = match policy::build(&documents, found) {
        Ok((registry, table)) => {
            pipeline::keep(&config.state_dir, &documents.texts);
            return Ok((registry, table, None));
        }
        Err(problems) => problems,
    };
    let kept = kept::recall(&config.state_dir).map(|(documents, found)| policy::build(&documents, found));
    if let Some(Ok((registry, table))) = kept {
        return Ok((registry, table, Some(problems)));
    }
    let all: Vec<String> = problems.0.iter().map(|p| p.for_people(false)).collect();
    anyhow::bail!("the configuration has errors, and there is none to fall back on:\n{}", all.join("\n"))
}

/// The built-in catalogue, unless it is not wanted.
fn known(config: &Config) -> Result<Vec<Agent>> {
    match config.catalogue {
        Catalogue::Off => Ok(Vec::new()),
        Catalogue::On => catalogue::known().map_err(|problems| {
            let all: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("the built-in catalogue has errors:\n{}", all.join("\n"))
        }),
    }
}

/// When what agents do is usual, and how serious what is not.
fn rules(config: &Config) -> Result<Rules> {
    let severities = match &config.baselines.severities {
        None => Severities::default(),
        Some(path) => severities(path)?,
    };
    Ok(Rules { support: config.baselines.support, severities })
}

/// The table of severities in a file.
///
/// # Errors
/// When it cannot be read, or has mistakes: each with its place.
pub fn severities(path: &Path) -> Result<Severities> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read the table of severities {}", path.display()))?;
    Ok(Severities::parse(&path.display().to_string(), &text)?)
}

fn build(config: &Config, kernel: Kernel, in_force: InForce, rules: Rules) -> Result<Pipeline> {
    let progress = Progress::mapped(kernel.progress()).context("map the note of what is recorded")?;
    let settings = Settings {
        events_file: config.events_file.clone(),
        bytes_max: config.events_file_bytes_max,
        key_dir: key::directory(&config.state_dir),
        keep: config.journal,
    };
    let journal = Journal::open(settings, progress)
        .with_context(|| format!("open the journal {}", config.events_file.display()))?;
    let mut line = Line {
        host: host::identify(),
        record: config.record.clone(),
        masks: Masks::with_words(&config.mask_words),
        names: in_force.names.clone(),
        lineage: Lineage::default(),
        channels: Channels::default(),
        due: Vec::new(),
        refused: Vec::new(),
        reactions: std::collections::BTreeMap::new(),
        recorder: Recorder::new(Some(journal)),
        watch: None,
        identifier: None,
        own_addresses: host::addresses(),
    };
    line.learn_cgroups();
    for pid in host::pids() {
        if let (Some(label), Some(exe)) = (kernel.label(pid), host::exe(pid)) {
            let exe = line.masks.shapes(&exe).unwrap_or(exe).into();
            let image = Image { exe, script: None, pid, agent: label.instance != 0 };
            line.lineage.images.insert(label.exec_id, image);
        }
    }
    let keeper = Keeper::new(&config.state_dir, &config.events_file, rules);
    Ok(Pipeline::new(kernel, line, in_force, keeper, config))
}

fn reload_on_signal(requests: mpsc::Sender<Request>) -> Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            // One reload that waits is enough: it reads what is on the disk by then.
            let _ = requests.try_send(Request::Reload("sighup"));
        }
    })
}

fn end_on_signal(shutdown: mpsc::Sender<()>) -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = shutdown.send(()).await;
    })
}

/// How long followers get for the last events.
const LAST_WORDS: Duration = Duration::from_millis(100);
