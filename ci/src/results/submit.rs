//! `cargo x results submit`: takes a reader's results among the published ones.
//!
//! All files are looked at before anything is copied, and one that is refused keeps the
//! others back, too: a pull request with half of a machine's results helps nobody.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use accel::{
    exit,
    results::{ResultFile, published_dir},
};

use super::files;
use crate::git;

/// Options of `cargo x results submit`.
#[derive(clap::Args)]
pub struct Args {
    /// Result files [default: all in results-local/].
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Say what would be copied, and copy nothing.
    #[arg(long)]
    dry_run: bool,
}

/// A file that may be published, and where.
struct Accepted {
    file: ResultFile,
    from: PathBuf,
    to: PathBuf,
}

/// Runs the command: exit code 2 if a file is refused.
///
/// # Errors
/// If a file cannot be written.
pub fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let paths = match args.files.is_empty() {
        true => files::local_paths(root),
        false => args.files.clone(),
    };
    if paths.is_empty() {
        eprintln!("error: no result file in results-local/; `cargo x learn --full` makes them");
        return Ok(ExitCode::from(exit::USAGE));
    }
    let mut accepted: Vec<Accepted> = Vec::new();
    let mut refused = 0;
    for path in paths {
        match look(&path, root) {
            Ok(one) => accepted.push(one),
            Err(reason) => {
                refused += 1;
                eprintln!("refused  {}: {reason}", files::relative(root, &path));
            }
        }
    }
    let mut targets = BTreeSet::new();
    for one in &accepted {
        if !targets.insert(&one.to) {
            refused += 1;
            eprintln!(
                "refused  {}: another file goes to {}, too",
                files::relative(root, &one.from),
                files::relative(root, &one.to)
            );
        }
    }
    if refused > 0 {
        eprintln!("{refused} refused, nothing copied: leave them out by naming the other files");
        return Ok(ExitCode::from(exit::USAGE));
    }
    for one in &accepted {
        let to = files::relative(root, &one.to);
        if args.dry_run {
            println!("would copy {} to {to}", files::relative(root, &one.from));
        } else {
            // Written anew: texts are made fit to be published once more.
            one.file.write(&one.to)?;
            println!("copied to {to}");
        }
    }
    println!("\n{}", next_steps(&accepted, root));
    Ok(ExitCode::SUCCESS)
}

/// Reads a file, and decides.
fn look(path: &Path, root: &Path) -> Result<Accepted, String> {
    let file = ResultFile::read(path).map_err(|error| error.to_string())?;
    let chapter = root.join("chapters").join(&file.chapter);
    if !chapter.is_dir() {
        return Err(format!("no chapter {:?} in chapters/", file.chapter));
    }
    if file.rows.is_empty() {
        return Err("it has no rows".to_owned());
    }
    if file.command.iter().any(|word| word == "--quick") {
        return Err(
            "measured with --quick, which takes too few samples to be published; \
             measure again with `cargo x learn --full`"
                .to_owned(),
        );
    }
    let measure_again = "; commit or put away the changes, then measure again";
    match (&file.commit, file.dirty) {
        (None, _) => {
            return Err(
                "it names no commit, so that nobody can tell what was measured; \
                 measure again in a git checkout"
                    .to_owned(),
            );
        }
        (Some(_), Some(true)) => {
            return Err(format!("measured with uncommitted changes{measure_again}"));
        }
        (Some(commit), _) if !git::has_commit(root, commit) => {
            return Err(match git::is_repository(root) {
                true => format!(
                    "this repository does not have its commit {commit}; \
                     fetch it, or measure again with a commit that others have"
                ),
                false => "git or its repository is missing, so that its commit cannot be looked up"
                    .to_owned(),
            });
        }
        _ => {}
    }
    // What would be published is read back: the checks for paths and users are in there.
    let text = file.to_text().map_err(|error| error.to_string())?;
    let file = ResultFile::parse(&text).map_err(|error| error.to_string())?;
    let slug = file.environment.machine_slug();
    let to =
        published_dir(root, &file.chapter, &slug, &file.measurement).join(file.published_name());
    if to.exists() {
        let there = ResultFile::read(&to).map_err(|error| error.to_string())?;
        return Err(match there == file {
            true => format!("already published as {}", files::relative(root, &to)),
            false => format!(
                "another result of that day and commit is published as {}",
                files::relative(root, &to)
            ),
        });
    }
    Ok(Accepted {
        file,
        from: path.to_owned(),
        to,
    })
}

/// The git commands of a pull request. They are printed and not run: what leaves this machine
/// is the reader's decision.
fn next_steps(accepted: &[Accepted], root: &Path) -> String {
    let Some(first) = accepted.first() else {
        return String::new();
    };
    let environment = &first.file.environment;
    let date = first.file.created_utc.get(..10).unwrap_or("undated");
    let branch = format!("results-{}-{date}", environment.machine_slug());
    let mut text = format!(
        "Look at the files once more, then send them as a pull request:\n\n  git switch --create {branch}\n  git add --"
    );
    for one in accepted {
        text.push_str(" \\\n    ");
        text.push_str(&files::relative(root, &one.to));
    }
    // The model is a text of the machine's; a quote would end the argument.
    let model: String = (environment.cpu_model.chars())
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '.'))
        .collect();
    text.push_str(&format!(
        "\n  git commit --message 'Results on {model}'\n  git push --set-upstream origin {branch}"
    ));
    text
}
