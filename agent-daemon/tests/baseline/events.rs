//! Recorded events of made-up roles, the same for the same seed: for learning tests and for measuring.

use std::fmt::Write as _;

/// How much happens, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub roles: u64,
    /// Different endpoints of each role.
    pub endpoints: u64,
    /// Acts of an instance from its first exec to its end.
    pub acts: u64,
    /// Seconds between two events.
    pub second_step: u64,
}

/// Makes lines.
pub struct Events {
    plan: Plan,
    random: u64,
    seq: u64,
    /// Of each role: the instance that runs, and its acts so far.
    instances: Vec<(u64, u64)>,
}

impl Events {
    /// Begins anew; the same plan and seed give the same lines.
    pub fn new(plan: Plan, seed: u64) -> Self {
        let instances = (0..plan.roles).map(|role| (role << 32 | 1, 0)).collect();
        Self { plan, random: seed | 1, seq: 0, instances }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    /// Appends the next line.
    pub fn line(&mut self, out: &mut String) {
        let role = self.below(self.plan.roles);
        let (instance, act) = self.instances[role as usize];
        self.seq += 1;
        let seconds = 1_767_225_600 + self.seq * self.plan.second_step;
        let (day, second) = (seconds / 86_400 - 20_454, seconds % 86_400);
        let kind = match act {
            0 => "process_exec",
            n if n + 1 >= self.plan.acts => "process_exit",
            n if n % 8 == 1 => "process_exec",
            _ => "net_connect",
        };
        // Every eighth act is a child of the first image; one connect in four is by one of two children, the rest by it.
        let child = match kind {
            "process_exec" => act,
            _ if act % 4 == 0 => 1 + act / 16 % 2 * 8 * u64::from(act > 9),
            _ => 0,
        };
        let exe =
            if child == 0 { "/usr/bin/node".to_owned() } else { format!("/usr/bin/tool{}", child % 13) };
        let _ = write!(
            out,
            r#"{{"time":"2026-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z","seq":{},"kind":"{kind}","host":"host-{}","boot_id":"00000000-0000-4000-8000-000000000000","verdict":"allow","origin":"agent","evidence":["lineage"],"instance":"i-{instance:016x}","agent":"agent-{role}","role":"role-{role}","exec_id":"x-{:016x}","parent_exec_id":"x-{:016x}","pid":{},"uid":1000,"comm":"node","exe":"{exe}","#,
            1 + day / 28 % 12,
            1 + day % 28,
            second / 3600,
            second / 60 % 60,
            second % 60,
            self.seq,
            self.seq,
            instance % 2,
            instance << 8 | child,
            instance << 8,
            1000 + act,
        );
        match kind {
            "process_exec" => {
                let recognised = if act == 0 { r#""recognised":"exe","match_entry":0,"# } else { "" };
                let _ = write!(
                    out,
                    r#""ppid":99,"argv":["node","main.js"],"cwd":"/srv",{recognised}"gid":1000,"file":{{"dev":1,"inode":77}},"namespaces":{{"mnt":1}}}}"#
                );
            }
            "process_exit" => out.push_str(r#""exit":{"code":0,"instance_ended":true}}"#),
            _ => {
                let (one, other) = (self.below(self.plan.endpoints), self.below(self.plan.endpoints));
                self.connect(role, one.min(other), out);
            }
        }
        out.push('\n');
        let next = if kind == "process_exit" { (instance + 1, 0) } else { (instance, act + 1) };
        self.instances[role as usize] = next;
    }

    /// The endpoint of this number: half have names, eight of a domain; half have addresses alone.
    fn connect(&mut self, role: u64, endpoint: u64, out: &mut String) {
        let number = role << 16 | endpoint;
        let address = format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255);
        let name = match endpoint % 2 {
            0 => String::new(),
            _ => format!(r#","name":"h{}.d{}-{role}.net""#, endpoint / 2 % 8, endpoint / 16),
        };
        let _ = write!(
            out,
            r#""network":{{"op":"connect","class":"endpoint","family":"inet","protocol":"tcp","type":"stream","address":"{address}","port":443{name},"socket":"000000000000000c"}},"decision":{{"wanted":"allow","source":"default","mode":"observe","place":"lsm"}}}}"#
        );
    }
}
