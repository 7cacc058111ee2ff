//! Names at scale: many roles that name many hosts, and many addresses that are known by one. What the operations connect
//! to is allowed by name alone.

use std::{fmt::Write as _, fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::machine::{LAUNCHER, Machine};

/// Puts in force so many roles with so many names each, and gives so many addresses names of theirs.
pub fn lay(machine: &mut Machine, roles: u32, names: u32, addresses: u32) -> Result<()> {
    // By the static names: the table is the same as after as many answers.
    let mut hosts = String::from("127.0.0.1 n0.r0.scale.test\n");
    for n in 1..addresses {
        let (role, name, [_, a, b, c]) = (n % roles, n / roles % names, n.to_be_bytes());
        // The one host that is named whole has an address of its own.
        let name = if role == 0 { name.max(1) } else { name };
        let _ = writeln!(hosts, "10.{a}.{b}.{c} h.n{name}.r{role}.scale.test");
    }
    fs::write("/etc/hosts", hosts).context("write the static names")?;
    machine.replace(&documents(roles, names))?;
    // The daemon looks at the file once a second.
    thread::sleep(Duration::from_secs(5));
    let output = machine.daemon()?.cli(&["names", "-o", "json"])?;
    let known: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).context("what names shows")?;
    ensure!(known.len() == addresses as usize, "{} of {addresses} addresses are known", known.len());
    Ok(())
}

fn documents(roles: u32, names: u32) -> String {
    let mut text = format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: cost }}\nspec: {{ owner: tests, role: r0, match: [ {{ exe: \
         {LAUNCHER} }} ] }}\n"
    );
    for role in 0..roles {
        let _ = write!(
            text,
            "---\napiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: r{role} }}\nspec:\n  mode: enforce\n  \
             network:\n    default: deny\n    defaults: {{ unix: allow }}\n    rules:\n"
        );
        for name in 0..names {
            let under = if role == 0 && name == 0 { "" } else { "*." };
            let _ = writeln!(
                text,
                "      - {{ to: \"{under}n{name}.r{role}.scale.test\", protocol: tcp, verdict: allow }}"
            );
        }
    }
    text
}
