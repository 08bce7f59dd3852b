//! Rules of our own for workflows: they only call what anybody can call on his own machine.

/// What a step may run, by its beginning: our commands, and what brings a compiler.
const MAY_RUN: [&str; 3] = ["cargo x ", ".ci/run", "rustup "];

/// Checks one workflow, line by line: no YAML is parsed, so a step is written `- uses: ...`,
/// or with `run: COMMAND` on one line.
pub fn check(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut say = |line: usize, what: String| problems.push(format!("{line}: {what}"));
    let (mut jobs, mut limits) = (0, 0);
    let mut in_jobs = false;
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split(" #").next().unwrap_or_default().trim_end();
        if !code.starts_with([' ', '#']) && !code.is_empty() {
            in_jobs = code == "jobs:";
        }
        let indent = code.len() - code.trim_start().len();
        if in_jobs && indent == 2 && code.ends_with(':') && !code.trim_start().starts_with('#') {
            jobs += 1;
        }
        let step = code.trim_start().trim_start_matches("- ");
        if indent == 4 && step.starts_with("timeout-minutes:") {
            limits += 1;
        }
        if let Some(action) = step.strip_prefix("uses:") {
            let action = action.trim();
            let commit = action.rsplit_once('@').map_or("", |(_, commit)| commit);
            if commit.len() != 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                say(
                    number,
                    format!("{action}: name an action by its full commit"),
                );
            } else if !line.contains(" # v") {
                say(
                    number,
                    format!("{action}: say the version behind it, as `# v1.2.3`"),
                );
            }
        }
        if let Some(command) = step.strip_prefix("run:") {
            let command = command.trim();
            if !MAY_RUN.iter().any(|start| command.starts_with(start)) {
                say(
                    number,
                    format!("`{command}`: a workflow calls `cargo x`, `.ci/run` or rustup only"),
                );
            }
            if command.contains("${{") {
                say(
                    number,
                    "an expression in a command: pass it by `env:`".to_owned(),
                );
            }
        }
    }
    if jobs != limits {
        say(
            1,
            format!("{jobs} jobs, {limits} with timeout-minutes: each needs one"),
        );
    }
    for key in ["\npermissions:", "\nconcurrency:"] {
        if !text.contains(key) {
            say(1, format!("no `{}` for the whole workflow", key.trim()));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: &str = "name: a\non: push\npermissions: {}\nconcurrency:\n  group: a\njobs:\n\
        \x20 test:\n    runs-on: ubuntu-24.04\n    timeout-minutes: 5\n    steps:\n\
        \x20     - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1\n\
        \x20     - name: all\n        run: cargo x test\n";

    #[test]
    fn a_good_one_is_fine() {
        assert_eq!(check(FINE), Vec::<String>::new());
    }

    #[test]
    fn each_rule_is_seen_broken() {
        for (from, to, said) in [
            (
                "3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
                "v7",
                "11: actions/checkout@v7: name",
            ),
            (" # v7.0.1", "", "11: actions/checkout@3d3c42e5"),
            ("cargo x test", "curl x | sh", "13: `curl x | sh`"),
            (
                "cargo x test",
                "cargo x test ${{ inputs.a }}",
                "13: an expression",
            ),
            (
                "    timeout-minutes: 5\n",
                "",
                "1: 1 jobs, 0 with timeout-minutes",
            ),
            ("permissions: {}\n", "", "1: no `permissions:`"),
            ("concurrency:\n  group: a\n", "", "1: no `concurrency:`"),
        ] {
            assert!(FINE.contains(from), "{from}");
            let problems = check(&FINE.replace(from, to));
            assert_eq!(problems.len(), 1, "{to}: {problems:?}");
            assert!(problems[0].starts_with(said), "{to}: {problems:?}");
        }
    }

    #[test]
    fn the_committed_workflows_follow_them() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github/workflows");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(check(&text), Vec::<String>::new(), "{}", path.display());
            seen += 1;
        }
        assert!(seen >= 4, "{seen} workflows");
    }
}
