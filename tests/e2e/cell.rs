//! The cell, from inside: what an agent finds when it looks around.

use serde_json::Value;

use crate::house::{House, SOON};

/// Each line is `name=value`. One line of shell, as a setting of the scenario is one line.
const LOOK: &str = concat!(
    "echo uid=$(id -u):$(id -g); ",
    "echo caps=$(grep -hE '^Cap(Eff|Prm|Bnd):' /proc/self/status | tr -d '\\t0\\n'); ",
    "echo nnp=$(grep -h NoNewPrivs /proc/self/status | tr -dc 0-9); ",
    "echo seccomp=$(grep -h '^Seccomp:' /proc/self/status | tr -dc 0-9); ",
    "(: > /root-is-writable) 2>/dev/null && echo root=writable || echo root=read-only; ",
    "(: > /gate/x) 2>/dev/null && echo gate=writable || echo gate=read-only; ",
    "echo links=$(ls /sys/class/net); ",
    "(exec 3<>/dev/tcp/192.0.2.1/80) 2>/dev/null && echo out=open || echo out=closed; ",
    "echo nameserver=$(getent hosts example.org || echo none); ",
    "printf '#!/bin/sh\\necho ran\\n' > /workspace/t; chmod +x /workspace/t; echo workspace=$(/workspace/t); ",
    "echo init=$(cat /proc/1/comm); ",
    "echo memory=$(cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null); ",
    "echo pids=$(cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null); ",
    "echo engine=$(ls /var/run/docker.sock /run/docker.sock 2>/dev/null || echo none); ",
    "echo devices=$(find /dev -type b | wc -l)",
);

pub(crate) async fn inside_there_is_little_to_be_had() {
    let house = House::open().await;
    let run = house.start(&format!("scenario: tool\ncommand: {LOOK}")).await;
    let page = house.until_ended(run, SOON).await;
    assert_eq!(page.outcome(), "succeeded", "{:?}", house.row(run).await);
    let events = house.events(run).await;
    let seen = events.iter().find(|event| event.kind == "tool_result").expect("a tool's result");
    let seen: Value = serde_json::from_str(&seen.payload).unwrap();
    let seen = seen["tool_use_result"]["stdout"].as_str().unwrap_or_else(|| panic!("{seen}"));
    let fact = |name: &str| {
        let line = seen.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name} in {seen}"))
    };
    let agent: (i64, i64) = sqlx::query_as("select memory_mib, pids from agents where name = 'claude-code'")
        .fetch_one(house.sql())
        .await
        .unwrap();
    let memory = (agent.0 << 20).to_string();
    let pids = agent.1.to_string();
    for (name, value) in [
        ("uid", "1000:1000"),
        ("caps", "CapPrm:CapEff:CapBnd:"),
        ("nnp", "1"),
        ("seccomp", "2"),
        ("root", "read-only"),
        ("gate", "read-only"),
        ("links", "lo"),
        ("out", "closed"),
        ("nameserver", "none"),
        ("workspace", "ran"),
        ("memory", &memory),
        ("pids", &pids),
        ("engine", "none"),
        ("devices", "0"),
    ] {
        assert_eq!(fact(name), value, "{name} in {seen}");
    }
    assert!(fact("init").contains("init") || fact("init").contains("tini"), "{seen}");
}
