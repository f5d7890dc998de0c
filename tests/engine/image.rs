//! Small images for tests: Debian's static busybox, and scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Imports an image into the engine at `address`, by way of a folder that is gone afterwards: `tools` of busybox, and
/// `scripts` by their paths, among them `entrypoint`.
pub(crate) fn make(address: &str, name: &str, root: &Path, tools: &[&str], scripts: &[(&str, &str)]) {
    for folder in ["bin", "proc", "sys", "dev", "tmp", "etc", "gate", "workspace", "home/agent"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("Debian's busybox-static is needed");
    for tool in tools {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
    for (path, text) in scripts {
        fs::write(root.join(path), text).unwrap();
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut tar =
        Command::new("tar").arg("-C").arg(root).args(["-c", "."]).stdout(Stdio::piped()).spawn().unwrap();
    let import = Command::new("docker")
        .args(["import", "-c", "ENTRYPOINT [\"/entrypoint\"]", "-c", "ENV PATH=/bin"])
        .args(["-c", "LABEL signalbox.claude.version=9.9.9", "-", name])
        .env("DOCKER_HOST", address)
        .stdin(tar.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(tar.wait().unwrap().success() && import.status.success(), "{import:?}");
    fs::remove_dir_all(root).unwrap();
}
