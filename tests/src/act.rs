//! The actors: every way in which a process can send a byte or reach another, one at a time, and every shape in which
//! a process can be born; and the receiver that sees at the other end what came.
//!
//! # Layout
//! - [`ways`] the table; [`inet`], [`udp`], [`uring`], [`compat`], [`passed`], [`raw`], [`packet`], [`routing`],
//!   [`sctp`], [`unix`], [`family`], [`tunnel`], [`kernelmade`] its rows
//! - [`ctx`] what a way is given; [`sys`] the system calls; [`frame`] packets by hand
//! - [`receive`] the other end, with [`capture`]; [`selfcheck`] all ways against it
//! - [`shape`] births; [`tree`] random process trees; [`dns`] a name server, [`arrivals`] who came; [`storm`] and [`hammer`] the same act many times; [`cost`] what
//!   one takes

pub mod arrivals;
pub mod capture;
pub mod compat;
pub mod cost;
pub mod ctx;
pub mod dns;
pub mod family;
pub mod frame;
pub mod hammer;
pub mod inet;
pub mod kernelmade;
pub mod packet;
pub mod passed;
pub mod raw;
pub mod receive;
pub mod routing;
pub mod sctp;
pub mod selfcheck;
pub mod shape;
pub mod storm;
pub mod sys;
pub mod tree;
pub mod tunnel;
pub mod udp;
pub mod unix;
pub mod uring;
pub mod ways;

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::act::{
    ctx::{Ctx, Site, Target},
    sys::{Outcome, errno_name},
    ways::{Family, Needs, Seen, Way},
};

/// Performs one way of sending, or one of the other acts.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Act {
    #[command(subcommand)]
    other: Option<Other>,
    /// The way to perform (see --list)
    way: Option<String>,
    /// List all ways
    #[arg(long)]
    list: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// ADDR:PORT, unix:/path, unix:@name, vsock:CID:PORT, netlink:PID
    #[arg(long)]
    to: Option<Target>,
    /// Where ways with two destinations go first (a test names an allowed one)
    #[arg(long)]
    first: Option<Target>,
    /// What the receiver will find in the payload
    #[arg(long, default_value = "none")]
    token: String,
    /// Put the token on the wire as it stands, and nothing beside it
    #[arg(long)]
    bare: bool,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// Run a receiver and all ways against it
    Selfcheck(selfcheck::Selfcheck),
    /// Do the same thing many times
    Storm(storm::Storm),
    /// Connect to what the role refuses, without pause
    Hammer(hammer::Hammer),
    /// Answer as a name server, truly or not
    Dns(dns::Dns),
    /// Print which addresses somebody connects to
    Arrivals(arrivals::Arrivals),
    /// Measure what an operation takes
    Cost(cost::Cost),
    /// Be born in a given shape, then execute a command
    Shape(shape::Shape),
    /// Grow random process trees that write down what they are
    Tree(tree::Tree),
    #[command(hide = true)]
    Node(tree::Node),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

/// What actor and receiver share.
#[derive(Debug, Clone, Args)]
pub struct SiteArgs {
    /// The receiver's port; its unix sockets and netlink id follow from it
    #[arg(long, default_value_t = ctx::PORT)]
    pub port: u16,
    /// Interface of the ways that send below IP or to a group
    #[arg(long, default_value = "lo")]
    pub iface: String,
}

impl SiteArgs {
    pub fn site(&self) -> Site {
        Site { port: self.port, iface: self.iface.clone() }
    }
}

/// The line that an act prints.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub way: String,
    pub to: String,
    pub ok: bool,
    pub outcome: Verdict,
    pub errno: Option<String>,
    pub step: Option<String>,
    pub sent: usize,
    /// CLOCK_MONOTONIC, as in the receiver's log.
    pub start_ns: u64,
    pub end_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The kernel took it.
    Sent,
    /// EPERM or EACCES, or less was done than asked without a reason.
    Refused,
    /// This kernel has no such thing.
    Unsupported,
    /// Any other error: of the host's set-up, or of the network.
    Failed,
}

impl Verdict {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Ok(_) => Self::Sent,
            Err(refused) => match refused.errno {
                0 | libc::EPERM | libc::EACCES => Self::Refused,
                libc::ENOSYS
                | libc::EAFNOSUPPORT
                | libc::EPFNOSUPPORT
                | libc::EPROTONOSUPPORT
                | libc::ESOCKTNOSUPPORT
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::ENODEV => Self::Unsupported,
                // The device file of a module that is not there.
                libc::ENOENT | libc::ENXIO if refused.step == "open" => Self::Unsupported,
                libc::EINVAL if refused.step == routing::ROUTING_HEADER => Self::Unsupported,
                _ => Self::Failed,
            },
        }
    }

    /// 0 sent, 1 refused, 3 unsupported, 4 failed (2 is a wrong command line).
    fn exit_code(self) -> u8 {
        match self {
            Self::Sent => 0,
            Self::Refused => 1,
            Self::Unsupported => 3,
            Self::Failed => 4,
        }
    }
}

impl Act {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.other {
            Some(Other::Selfcheck(selfcheck)) => selfcheck.run(),
            Some(Other::Storm(storm)) => storm.run(),
            Some(Other::Hammer(hammer)) => hammer.run(),
            Some(Other::Dns(dns)) => dns.run(),
            Some(Other::Arrivals(arrivals)) => arrivals.run(),
            Some(Other::Cost(cost)) => cost.run(),
            Some(Other::Shape(shape)) => shape.run(),
            Some(Other::Tree(tree)) => tree.run(),
            Some(Other::Node(node)) => node.run(),
            None if self.list => list(&self.site.site(), self.output).map(|()| ExitCode::SUCCESS),
            None => self.perform(),
        }
    }

    fn perform(self) -> anyhow::Result<ExitCode> {
        let Some(name) = self.way else { bail!("name a way, or say --list") };
        let way = ways::find(&name).with_context(|| format!("no way {name}: see act --list"))?;
        let site = self.site.site();
        let to = self.to.unwrap_or_else(|| way.to.target(&site));
        let ctx = Ctx {
            way: way.name,
            first: self.first.unwrap_or_else(|| to.clone()),
            to,
            token: self.token,
            bare: self.bare,
            site,
        };
        let start_ns = sys::now_ns();
        let outcome = (way.run)(&ctx);
        let verdict = Verdict::of(&outcome);
        let refused = outcome.as_ref().err();
        let report = Report {
            way: ctx.way.to_owned(),
            to: ctx.to.to_string(),
            ok: verdict == Verdict::Sent,
            outcome: verdict,
            errno: refused.filter(|refused| refused.errno != 0).map(|refused| errno_name(refused.errno)),
            step: refused.map(|refused| refused.step.clone()),
            sent: outcome.as_ref().map_or_else(|refused| refused.sent, |sent| sent.bytes),
            start_ns,
            end_ns: sys::now_ns(),
        };
        println!("{}", serde_json::to_string(&report)?);
        Ok(ExitCode::from(verdict.exit_code()))
    }
}

/// A row of `act --list`.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    family: Family,
    needs: Needs,
    to: String,
    /// What the receiver sees when nothing stands between.
    seen: Seen,
}

fn list(site: &Site, output: Format) -> anyhow::Result<()> {
    let row = |way: &Way| Row {
        name: way.name,
        family: way.family,
        needs: way.needs,
        to: way.to.target(site).to_string(),
        seen: way.seen,
    };
    if output == Format::Json {
        println!("{}", serde_json::to_string(&ways::all().map(row).collect::<Vec<_>>())?);
        return Ok(());
    }
    for way in ways::all().map(row) {
        println!(
            "{:<28} {:<8} {:<36} {}",
            way.name,
            format!("{:?}", way.family).to_lowercase(),
            way.to,
            needs(&way.needs)
        );
    }
    Ok(())
}

fn needs(needs: &Needs) -> String {
    let root = needs.root.then(|| "root".to_owned());
    let module = needs.module.map(|module| format!("module {module}"));
    let kernel = needs.kernel.map(|(major, minor)| format!("kernel {major}.{minor}"));
    let setting = needs.setting.map(|setting| format!("sysctl {setting}"));
    [root, module, kernel, setting].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
