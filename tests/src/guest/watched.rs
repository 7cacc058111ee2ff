//! A real Prometheus scrapes the daemon, and goes by the alerts that are shipped.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::process::{TRY_CONNECT, was_refused};
use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{Daemon, Start, program, script},
};

pub const CASES: &[Case<Shared>] =
    &[case("a real Prometheus reads the metrics and tells of a refusal, and of nothing else", watched)];

const ALERTS: &str = include_str!("../../../dashboards/alerts.yaml");
const AGENT: &str = "/run/chaperone-watched";
const DOCUMENTS: &str = "apiVersion: chaperone/v1
kind: Agent
metadata: { name: bot }
spec: { owner: tests@example.com, version: \"1\", role: bot, match: [ { exe: /run/chaperone-watched } ] }
---
apiVersion: chaperone/v1
kind: Role
metadata: { name: bot }
spec: { mode: enforce, network: { default: deny, defaults: { unix: allow } } }
";

fn watched(shared: &mut Shared) -> Result<Outcome> {
    let Ok(prometheus) = program("prometheus") else {
        return Ok(Outcome::Skipped("no prometheus in this guest: the systemd one has it".to_owned()));
    };
    script(Path::new(AGENT), &format!("#!/bin/bash\n{TRY_CONNECT}\n"))?;
    let start =
        Start { documents: DOCUMENTS.to_owned(), mode: Some(shared.mode.clone()), ..Start::default() };
    let mut daemon = Daemon::start(&start)?;
    daemon.stop()?;
    daemon.restart(&["--metrics", METRICS])?;
    let prometheus = Prometheus::start(&prometheus, &daemon.directory.join("prometheus"))?;

    let mode = format!("chaperone_info{{mode=\"{}\"}} == 1", shared.mode);
    prometheus.wait("the daemon's mode", || Ok(prometheus.has(&mode)?.then_some(())))?;
    prometheus.wait("an answer", || Ok(prometheus.has("up{job=\"chaperone\"} == 1")?.then_some(())))?;
    ensure!(
        !prometheus.firing()?.iter().any(|name| name == REFUSED),
        "a refusal is told before there is one"
    );

    let output = Command::new(AGENT).output()?;
    ensure!(was_refused(&String::from_utf8_lossy(&output.stderr))?, "the agent's connect passed");
    let firing = prometheus.wait("the alert", || {
        let firing = prometheus.firing()?;
        Ok(firing.iter().any(|name| name == REFUSED).then_some(firing))
    })?;
    let others: Vec<_> = firing.iter().filter(|name| *name != REFUSED).collect();
    ensure!(others.is_empty(), "it tells of {others:?} too");
    Ok(Outcome::Held)
}

struct Prometheus(Child);

impl Prometheus {
    fn start(program: &Path, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("alerts.yaml"), ALERTS)?;
        let settings = format!(
            "global: {{ scrape_interval: 3s, evaluation_interval: 3s }}\nrule_files: [ alerts.yaml ]\n\
             scrape_configs: [ {{ job_name: chaperone, static_configs: [ {{ targets: [ \"{METRICS}\" ] }} ] }} ]\n"
        );
        fs::write(directory.join("prometheus.yaml"), settings)?;
        let log = File::create(directory.join("log"))?;
        let child = Command::new(program)
            .arg(format!("--config.file={}", directory.join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start prometheus")?;
        Ok(Self(child))
    }

    fn ask(&self, path: &str, query: &[String]) -> Result<Value> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--get", "--max-time", "10"]);
        for part in query {
            curl.arg("--data-urlencode").arg(part);
        }
        let output = curl.arg(format!("http://{ADDRESS}/api/v1/{path}")).output()?;
        ensure!(output.status.success(), "prometheus does not answer {path}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn has(&self, query: &str) -> Result<bool> {
        let answer = self.ask("query", &[format!("query={query}")])?;
        Ok(answer["data"]["result"].as_array().is_some_and(|found| !found.is_empty()))
    }

    fn firing(&self) -> Result<Vec<String>> {
        let answer = self.ask("alerts", &[])?;
        let alerts = answer["data"]["alerts"].as_array().into_iter().flatten();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        Ok(firing.filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned)).collect())
    }

    /// Asks until there is an answer; while it starts it gives none.
    fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let begin = Instant::now();
        loop {
            match look() {
                Ok(Some(found)) => return Ok(found),
                Err(error) if begin.elapsed() > PATIENCE => return Err(error.context(what.to_owned())),
                _ if begin.elapsed() > PATIENCE => bail!("{what} did not come"),
                _ => thread::sleep(Duration::from_millis(500)),
            }
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

const METRICS: &str = "127.0.0.1:9669";
const ADDRESS: &str = "127.0.0.1:9090";
const REFUSED: &str = "ChaperoneAgentRefused";
/// A program of 50 MB starts slowly under emulation.
const PATIENCE: Duration = Duration::from_secs(180);
