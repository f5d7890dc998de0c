//! The cell: how a run's container is made. One place says what a run may do.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, RestartPolicy, RestartPolicyNameEnum,
};

use crate::model::agent::Limits;

/// The port inside the container where the model API seems to be.
pub const GATE_PORT: u16 = 9000;

/// The user and group of everything in the container.
const USER: &str = "1000:1000";

const MIB: i64 = 1 << 20;

/// Everything an engine needs to make a run's container. It holds no secret but the gate's token, which is good for this
/// run and this gate alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The run's number; label `signalbox.run`.
    pub run: i64,
    /// The lease's fence; label `signalbox.fence`.
    pub fence: i64,
    /// The image.
    pub image: String,
    /// `--model` of the CLI.
    pub model: Option<String>,
    /// What the run may use at most.
    pub limits: Limits,
    /// The run's folder on the host: holds `gate.sock` and `prompt`; mounted read-only at `/gate`.
    pub gate_dir: PathBuf,
    /// What the CLI presents to the gate in place of an API key.
    pub gate_token: String,
}

impl Cell {
    /// The CLI's command line. The prompt comes by standard input, never here.
    pub fn command(&self, claude: &str) -> Vec<String> {
        let mut argv: Vec<String> = [claude, "-p", "--output-format", "stream-json", "--verbose"]
            .into_iter()
            .chain(["--dangerously-skip-permissions"])
            .map(str::to_owned)
            .collect();
        if let Some(model) = &self.model {
            argv.extend(["--model".to_owned(), model.clone()]);
        }
        argv
    }

    /// The CLI's environment, `gate_url` being where the gate seems to be from inside.
    pub fn environment(&self, gate_url: &str) -> Vec<(&'static str, String)> {
        vec![
            ("ANTHROPIC_BASE_URL", gate_url.to_owned()),
            ("ANTHROPIC_API_KEY", self.gate_token.clone()),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
            ("DISABLE_AUTOUPDATER", "1".to_owned()),
        ]
    }

    /// The container, as Docker's API takes it: no network, no capabilities, nothing writable but three folders in
    /// memory, one way out.
    pub(super) fn container(&self, labels: HashMap<String, String>) -> ContainerCreateBody {
        let gate_url = format!("http://127.0.0.1:{GATE_PORT}");
        let mut env: Vec<String> =
            self.environment(&gate_url).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        env.push("HOME=/home/agent".to_owned());
        ContainerCreateBody {
            image: Some(self.image.clone()),
            cmd: Some(self.command("claude")),
            env: Some(env),
            user: Some(USER.to_owned()),
            working_dir: Some("/workspace".to_owned()),
            labels: Some(labels),
            network_disabled: Some(true),
            // An image's own check would run beside the agent.
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }),
            host_config: Some(self.walls()),
            ..Default::default()
        }
    }

    fn walls(&self) -> HostConfig {
        let memory = self.limits.memory_mib * MIB;
        HostConfig {
            network_mode: Some("none".to_owned()),
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            privileged: Some(false),
            ipc_mode: Some("private".to_owned()),
            // The first process reaps what double-forks, and hands SIGINT and SIGTERM to the CLI alone.
            init: Some(true),
            memory: Some(memory),
            memory_swap: Some(memory),
            nano_cpus: Some(self.limits.milli_cpus * 1_000_000),
            pids_limit: Some(self.limits.pids),
            tmpfs: Some(self.folders()),
            binds: Some(vec![format!("{}:/gate:ro", self.gate_dir.display())]),
            // Never again by itself: what was stopped stays stopped.
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                ..Default::default()
            }),
            auto_remove: Some(false),
            // Without rotation, whatever the engine's default: the output is read from its first byte after a
            // worker's restart. Only a positive size is taken, so it is a petabyte.
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([("max-size".to_owned(), "1p".to_owned())])),
            }),
            ..Default::default()
        }
    }

    /// What can be written. It counts as the container's memory, so the three together stay below it, and a full disk
    /// is met before the kernel ends the run for want of memory.
    fn folders(&self) -> HashMap<String, String> {
        let folder = |path: &str, share: i64| {
            let size = self.limits.memory_mib / share;
            (path.to_owned(), format!("rw,exec,nosuid,nodev,uid=1000,gid=1000,mode=0700,size={size}m"))
        };
        HashMap::from([folder("/tmp", 4), folder("/home/agent", 8), folder("/workspace", 2)])
    }
}
