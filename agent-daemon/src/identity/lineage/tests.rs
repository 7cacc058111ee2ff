//! Attribution of events to agents, containers, executables and rules.

use agent_common::{identity::Origin, rule::Mode};

use super::*;
use crate::event::{
    Ids, Subject,
    net::{Decision, Network, Rule, RuleIds},
    process::{Exec, Exit, NewCgroup},
    word::ExecId,
};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn names() -> Names {
    let mut names = Names::default();
    names.add_agent(7, "invoice-bot", None);
    names.add_role(8, "invoice-review", Mode::Enforce);
    let rule = |text: &str, source: &str| NamedRule {
        text: text.into(),
        source: source.into(),
        ..NamedRule::default()
    };
    names.add_rule(9, 0, rule("to 10.0.0.0/8", "roles/a.yaml:12"));
    names.add_rule(9, 1, NamedRule { by_name: true, ..rule("a.example.com", "roles/a.yaml:13") });
    names
}

fn event(kind: Kind) -> Event {
    let subject = Subject {
        origin: Origin::Agent.into(),
        instance: InstanceId::some(5),
        exec_id: Some(ExecId(1)),
        pid: 100,
        ids: Ids { agent: 7, role: 8, cgroup: 3 },
        ..Subject::default()
    };
    Event { kind, subject: Some(subject), ..Event::default() }
}

fn exec(exe: &str) -> Event {
    let mut event = event(Kind::ProcessExec);
    event.subject.as_mut().unwrap().exe = Some(exe.into());
    event.exec = Some(Box::new(Exec { recognised: Some(Recognised::Exe.into()), ..Exec::default() }));
    event
}

#[test]
fn later_events_of_an_image_carry_its_executable_and_the_instance_is_known() {
    let (mut lineage, names) = (Lineage::default(), names());
    let mut began = exec("/opt/bot");
    lineage.learn(&began);
    lineage.attribute(&mut began, &names);
    let mut later = event(Kind::NetConnect);
    lineage.attribute(&mut later, &names);
    let subject = later.subject.unwrap();
    assert_eq!(
        (subject.agent.as_deref(), subject.role.as_deref()),
        (Some("invoice-bot"), Some("invoice-review"))
    );
    assert_eq!(subject.exe.as_deref(), Some("/opt/bot"));
    assert_eq!(lineage.agent_of(5).map(|n| &**n), Some("invoice-bot"));

    let mut end = event(Kind::ProcessExit);
    end.exit = Some(Exit { instance_ended: true, ..Exit::default() });
    lineage.learn(&end);
    assert_eq!(lineage.instances().count(), 0);
}

#[test]
fn what_goes_over_udp_by_a_name_is_told_as_not_read() {
    let (mut lineage, names) = (Lineage::default(), names());
    let mut unread = |protocol: &str, rule| {
        let mut event = event(Kind::NetConnect);
        event.network = Some(Network { protocol: Some(protocol.into()), ..Network::default() });
        event.decision = Some(Decision {
            rule: Some(Rule::default()),
            ids: RuleIds { policy: 9, rule },
            ..Decision::default()
        });
        lineage.attribute(&mut event, &names);
        event.network.unwrap().unread
    };
    assert_eq!(
        [unread("udp", 1), unread("tcp", 1), unread("udp", 0), unread("udp", 7)],
        [true, false, false, false]
    );
}

#[test]
fn what_is_not_known_says_unknown() {
    let mut lineage = Lineage::default();
    let mut event = event(Kind::NetConnect);
    event.decision = Some(Decision {
        rule: Some(Rule::default()),
        ids: RuleIds { policy: 1, rule: 70 },
        ..Decision::default()
    });
    lineage.attribute(&mut event, &Names::default());
    let subject = event.subject.unwrap();
    for name in [subject.agent, subject.role, subject.cgroup] {
        assert_eq!(name.as_deref(), Some("unknown"));
    }
    assert_eq!(&*event.decision.unwrap().rule.unwrap().text, "unknown");
    assert!(lineage.cgroups.take_missed() && !lineage.cgroups.take_missed());
}

#[test]
fn a_decision_names_its_rule_also_when_the_policy_was_just_replaced() {
    let mut names_now = Names::default();
    names_now.follow(names());
    let rule = names_now.rule(9, 0).unwrap();
    assert_eq!((&*rule.text, &*rule.source), ("to 10.0.0.0/8", "roles/a.yaml:12"));
    assert_eq!(names().mode(8).map(Word::name), Some("enforce"));
}

#[test]
fn containers_and_units_come_from_the_cgroup_of_the_event() {
    let table = [
        (format!("/system.slice/docker-{ID}.scope"), Some(ID)),
        (format!("/docker/{ID}"), Some(ID)),
        (format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"), Some(ID)),
        (format!("/kubepods/besteffort/pod1/{ID}"), Some(ID)),
        (format!("/machine.slice/libpod-{ID}.scope/container"), Some(ID)),
        (format!("/kubepods.slice/crio-{ID}.scope"), Some(ID)),
        (format!("/machine.slice/libpod-conmon-{ID}.scope"), None),
        ("/lxc.payload.web/system.slice".to_owned(), Some("web")),
        ("/user.slice/user-1000.slice/session-3.scope".to_owned(), None),
        (String::new(), None),
    ];
    for (path, id) in &table {
        assert_eq!(cgroups::container(path), *id, "{path}");
    }
    assert_eq!(cgroups::unit("/system.slice/bot.service/payload"), Some("bot.service"));

    let mut lineage = Lineage::default();
    let mut created = event(Kind::CgroupCreated);
    created.new_cgroup = Some(NewCgroup { id: 3, path: table[0].0.as_str().into() });
    lineage.learn(&created);
    lineage.attribute(&mut created, &names());
    assert_eq!(created.subject.unwrap().container.as_deref(), Some(ID));
}
