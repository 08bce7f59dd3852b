//! The programs of the machine that the project needs, and the command that installs each.

use std::process::Command;

/// A program that is looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tool {
    /// A C++ compiler, for tch's shim.
    Cxx,
    /// Python 3: only pip is run with it.
    Python,
    /// pip, as `python3 -m pip`.
    Pip,
    /// git, for the commit in result files.
    Git,
    /// libclang, with which bindgen reads headers: for the optional feature `xla-rs` only.
    Libclang,
}

/// The first line that `program arguments...` prints, if it runs and succeeds.
pub fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// What the tool says of itself; `None` if it is missing or does not run.
pub fn found(tool: Tool) -> Option<String> {
    match tool {
        Tool::Cxx => {
            // The order of the crate cc, which builds the shim: CXX, then the platform's name.
            let given = std::env::var("CXX").ok().filter(|name| !name.is_empty());
            let names = given.map_or_else(|| vec!["c++".to_owned(), "g++".to_owned()], |n| vec![n]);
            names.iter().find_map(|name| {
                let line = first_line(name, &["--version"])?;
                Some(format!("{name}: {line}"))
            })
        }
        Tool::Python => first_line("python3", &["--version"]),
        Tool::Pip => first_line("python3", &["-m", "pip", "--version"]),
        Tool::Git => first_line("git", &["--version"]),
        // A library only; the compiler that comes from the same packages tells its version.
        Tool::Libclang => first_line("clang", &["--version"]),
    }
}

/// The one command that installs the tool on this machine.
pub fn install_command(tool: Tool) -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let root = first_line("id", &["-u"]).as_deref() == Some("0");
    install_command_for(tool, &release, std::env::consts::OS, root)
}

fn install_command_for(tool: Tool, os_release: &str, os: &str, root: bool) -> String {
    if os == "macos" {
        // One package brings clang++, python3 with pip, and git.
        return "xcode-select --install".to_owned();
    }
    let value = |key: &str| {
        let line = os_release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let families = format!("{} {}", value("ID"), value("ID_LIKE"));
    let is = |name: &str| families.split_whitespace().any(|family| family == name);
    let command = if is("debian") || is("ubuntu") {
        let package = match tool {
            Tool::Cxx => "g++",
            Tool::Python => "python3 python3-pip",
            Tool::Pip => "python3-pip",
            Tool::Git => "git",
            Tool::Libclang => "libclang-dev",
        };
        format!("apt-get install -y {package}")
    } else if is("fedora") || is("rhel") {
        let package = match tool {
            Tool::Cxx => "gcc-c++",
            Tool::Python => "python3 python3-pip",
            Tool::Pip => "python3-pip",
            Tool::Git => "git",
            Tool::Libclang => "clang-devel",
        };
        format!("dnf install -y {package}")
    } else if is("arch") {
        let package = match tool {
            Tool::Cxx => "gcc",
            Tool::Python => "python python-pip",
            Tool::Pip => "python-pip",
            Tool::Git => "git",
            Tool::Libclang => "clang",
        };
        format!("pacman -S --noconfirm {package}")
    } else if is("suse") || is("opensuse") {
        let package = match tool {
            Tool::Cxx => "gcc-c++",
            Tool::Python => "python3 python3-pip",
            Tool::Pip => "python3-pip",
            Tool::Git => "git",
            Tool::Libclang => "clang-devel",
        };
        format!("zypper install -y {package}")
    } else {
        return match tool {
            Tool::Cxx => "install g++ or clang++ with your system's packages".to_owned(),
            Tool::Python => "install Python 3 with pip with your system's packages".to_owned(),
            Tool::Pip => "python3 -m ensurepip --user".to_owned(),
            Tool::Git => "install git with your system's packages".to_owned(),
            Tool::Libclang => "install libclang with your system's packages".to_owned(),
        };
    };
    if root {
        command
    } else {
        format!("sudo {command}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_fits_the_system() {
        let ubuntu = "NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n";
        let cxx = |release, os, root| install_command_for(Tool::Cxx, release, os, root);
        assert_eq!(cxx(ubuntu, "linux", false), "sudo apt-get install -y g++");
        assert_eq!(cxx("ID=debian", "linux", true), "apt-get install -y g++");
        let rocky = "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n";
        assert_eq!(cxx(rocky, "linux", true), "dnf install -y gcc-c++");
        assert_eq!(cxx("ID=arch", "linux", true), "pacman -S --noconfirm gcc");
        assert_eq!(cxx("", "macos", false), "xcode-select --install");
        let pip = install_command_for(Tool::Pip, "ID=nixos", "linux", true);
        assert_eq!(pip, "python3 -m ensurepip --user");
    }
}
