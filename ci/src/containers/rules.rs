//! Rules of our own for Dockerfiles: what hadolint does not know of this project.

use std::path::Path;

/// Names of variables that look like secrets.
const SECRETS: [&str; 5] = ["TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "API_KEY"];

/// What the labels of an image must tell.
const LABELS: [&str; 5] = ["title", "description", "licenses", "version", "revision"];

/// An instruction with its continuation lines in one.
struct Instruction {
    line: usize,
    name: String,
    rest: String,
}

/// Checks one Dockerfile; each problem begins with its line.
pub fn check(file: &Path, text: &str) -> Vec<String> {
    let instructions = instructions(text);
    let mut problems = Vec::new();
    let mut say = |line: usize, what: String| problems.push(format!("{line}: {what}"));
    let stages = stages(&instructions);
    for instruction in &instructions {
        let Instruction { line, name, rest } = instruction;
        match name.as_str() {
            "FROM" => {
                let base = rest.split_whitespace().next().unwrap_or_default();
                if !stages.contains(&base) && !is_argument(base) {
                    say(
                        *line,
                        format!("FROM {base}: a base is an ARG, so that it can be pinned"),
                    );
                }
            }
            "ARG" | "ENV" => {
                let upper = rest.to_uppercase();
                let variable = upper.split(['=', ' ']).next().unwrap_or_default();
                if let Some(word) = SECRETS.iter().find(|word| variable.contains(*word)) {
                    say(
                        *line,
                        format!("{name} with {word}: it would stay in the image's history"),
                    );
                }
                let value = upper.split_once('=').map_or("", |(_, value)| value);
                if value.ends_with(":LATEST") {
                    say(
                        *line,
                        format!("{name} {rest}: name a version, not `latest`"),
                    );
                }
            }
            "RUN" => {
                for command in ["cargo build", "cargo run", "cargo install"] {
                    for part in rest.split("&&").filter(|part| part.contains(command)) {
                        if !part.contains("--locked") {
                            say(*line, format!("`{command}` without --locked"));
                        }
                    }
                }
                if rest.contains("pip install") && !rest.contains("--require-hashes") {
                    say(*line, "`pip install` without --require-hashes".to_owned());
                }
            }
            "ADD" => say(*line, "ADD fetches and unpacks: use COPY".to_owned()),
            _ => {}
        }
    }
    let last_stage = (instructions.iter()).rposition(|instruction| instruction.name == "FROM");
    let last_stage = &instructions[last_stage.unwrap_or(0)..];
    let line = last_stage.first().map_or(1, |instruction| instruction.line);
    let user = last_stage
        .iter()
        .rfind(|instruction| instruction.name == "USER");
    // Beam's entry point writes where its runner mounts; it is made to run as root.
    let root_is_fine = file.ends_with("Dockerfile.beam");
    match user.map(|user| user.rest.as_str()) {
        None if !root_is_fine => say(
            line,
            "the last stage has no USER: it would run as root".to_owned(),
        ),
        Some("root" | "0" | "0:0") if !root_is_fine => say(line, "runs as root".to_owned()),
        _ => {}
    }
    let labels: Vec<&str> = (last_stage.iter())
        .filter(|instruction| instruction.name == "LABEL")
        .map(|instruction| instruction.rest.as_str())
        .collect();
    for label in LABELS {
        let wanted = format!("org.opencontainers.image.{label}=");
        if !labels.iter().any(|text| text.contains(&wanted)) {
            say(line, format!("the last stage has no label {wanted}..."));
        }
    }
    if !file.ends_with("Dockerfile.beam")
        && !last_stage
            .iter()
            .any(|instruction| instruction.name == "CMD")
    {
        say(
            line,
            "the last stage has no CMD: `docker run IMAGE` must do something".to_owned(),
        );
    }
    problems
}

/// Default values of the ARGs that stages begin with, where they go by a tag.
pub fn bases_without_digest(text: &str) -> Vec<String> {
    let instructions = instructions(text);
    let bases: Vec<&str> = (instructions.iter())
        .filter(|instruction| instruction.name == "FROM")
        .filter_map(|instruction| instruction.rest.split_whitespace().next())
        .map(|base| base.trim_matches(['$', '{', '}']))
        .collect();
    let mut found: Vec<String> = Vec::new();
    for instruction in instructions.iter().filter(|i| i.name == "ARG") {
        let Some((name, value)) = instruction.rest.split_once('=') else {
            continue;
        };
        if bases.contains(&name) && !value.contains("@sha256:") && !found.iter().any(|f| f == value)
        {
            found.push(value.to_owned());
        }
    }
    found
}

/// Names that stages have.
fn stages(instructions: &[Instruction]) -> Vec<&str> {
    let from = instructions
        .iter()
        .filter(|instruction| instruction.name == "FROM");
    from.filter_map(|instruction| {
        let mut words = instruction
            .rest
            .split_whitespace()
            .skip_while(|word| !word.eq_ignore_ascii_case("as"));
        words.nth(1)
    })
    .collect()
}

fn is_argument(base: &str) -> bool {
    base.starts_with("${") && base.ends_with('}') && base.matches('$').count() == 1
}

fn instructions(text: &str) -> Vec<Instruction> {
    let mut instructions: Vec<Instruction> = Vec::new();
    let mut open = false;
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (part, goes_on) = match trimmed.strip_suffix('\\') {
            Some(part) => (part.trim_end(), true),
            None => (trimmed, false),
        };
        match instructions.last_mut() {
            Some(last) if open => {
                last.rest.push(' ');
                last.rest.push_str(part);
            }
            _ => {
                let (name, rest) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
                instructions.push(Instruction {
                    line: number,
                    name: name.to_uppercase(),
                    rest: rest.trim().to_owned(),
                });
            }
        }
        open = goes_on;
    }
    instructions
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: &str = "ARG BASE=debian:12@sha256:00\nARG RUST=rust:1.89\n\
        FROM ${RUST} AS build\nRUN cargo build --locked \\\n    # why\n    && true\n\
        FROM ${BASE}\n\
        LABEL org.opencontainers.image.title=a org.opencontainers.image.description=a \\\n\
        \x20 org.opencontainers.image.licenses=a org.opencontainers.image.version=a \\\n\
        \x20 org.opencontainers.image.revision=a\n\
        COPY --from=build /a /a\nUSER 65532:65532\nCMD [\"run\"]\n";

    fn found(text: &str) -> Vec<String> {
        check(Path::new("docker/Dockerfile.cpu"), text)
    }

    #[test]
    fn a_good_one_is_fine_and_its_bases_are_told() {
        assert_eq!(found(FINE), Vec::<String>::new());
        assert_eq!(bases_without_digest(FINE), ["rust:1.89"]);
    }

    #[test]
    fn each_rule_is_seen_broken() {
        for (from, to, said) in [
            (
                "FROM ${BASE}",
                "FROM debian:12",
                "7: FROM debian:12: a base is an ARG",
            ),
            ("FROM ${BASE}", "FROM deb${BASE}", "a base is an ARG"),
            ("--locked", "", "4: `cargo build` without --locked"),
            (
                "&& true",
                "&& cargo run -- setup",
                "4: `cargo run` without --locked",
            ),
            (
                "&& true",
                "&& pip install x",
                "4: `pip install` without --require-hashes",
            ),
            ("USER 65532:65532", "", "the last stage has no USER"),
            ("USER 65532:65532", "USER root", "runs as root"),
            ("rust:1.89", "rust:latest", "2: ARG RUST=rust:latest"),
            ("COPY --from=build", "ADD", "11: ADD fetches"),
            (
                "CMD [\"run\"]",
                "ENV GITHUB_TOKEN=x\nCMD []",
                "ENV with TOKEN",
            ),
            ("CMD [\"run\"]", "", "has no CMD"),
            (
                "image.revision",
                "image.created",
                "no label org.opencontainers.image.revision=",
            ),
        ] {
            assert!(FINE.contains(from), "{from}");
            let problems = found(&FINE.replace(from, to));
            assert_eq!(problems.len(), 1, "{to}: {problems:?}");
            assert!(problems[0].contains(said), "{to}: {problems:?}");
        }
    }

    #[test]
    fn a_stage_of_the_file_is_no_base() {
        let text = FINE.replace("FROM ${BASE}", "FROM build AS again");
        assert_eq!(found(&text), Vec::<String>::new());
    }
}
