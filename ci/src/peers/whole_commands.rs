//! Contenders that are whole commands, timed from start to exit: who takes part, and their turns.

use accel::progress::Progress;
use serde::de::DeserializeOwned;

use super::{
    CommonArgs, check_programs,
    rounds::{PAUSE, place_in_round},
};

/// The contenders that the arguments leave; an error is a message for the user.
///
/// * `measurement`: the only one that this command makes
pub fn selected<W: Copy>(
    all: &[W],
    id: impl Fn(W) -> &'static str,
    args: &CommonArgs,
    measurement: &str,
) -> Result<Vec<W>, String> {
    let mut who = all.to_vec();
    if !args.contender.is_empty() {
        who.retain(|&who| args.contender.iter().any(|part| id(who).contains(part)));
    }
    let named = (args.only.as_deref()).is_none_or(|part| measurement.contains(part));
    if who.is_empty() || !named {
        let ids: Vec<_> = all.iter().map(|&who| id(who)).collect();
        return Err(format!(
            "nothing is called so; measurements: {measurement}; contenders: {}",
            ids.join(", ")
        ));
    }
    check_programs(args).map_err(|error| format!("{error:#}"))?;
    Ok(who)
}

/// How often everybody has a turn.
pub fn rounds(args: &CommonArgs) -> usize {
    match (args.rounds, args.quick) {
        (Some(rounds), _) => rounds as usize,
        (None, true) => 1,
        (None, false) => 3,
    }
}

/// Gives everybody a turn in each round; who fails once is out.
///
/// * `ids`: the contenders' names, for the progress
/// * `results`: what came of each so far; an error is the reason why it is out
/// * `once`: runs the command of a contender, by its place in `ids`
/// * `seconds`: what that took
pub fn in_turn<O>(
    ids: &[&str],
    rounds: usize,
    results: &mut [Result<Vec<O>, String>],
    progress: &Progress,
    once: impl Fn(usize) -> Result<O, String>,
    seconds: impl Fn(&O) -> f64,
) {
    for round in 0..rounds {
        progress.println(&format!("  round {} of {rounds}", round + 1));
        for position in 0..ids.len() {
            let place = place_in_round(round, position, ids.len());
            let Ok(finished) = &mut results[place] else {
                continue;
            };
            std::thread::sleep(PAUSE);
            match once(place) {
                Ok(one) => {
                    progress.println(&format!("    {}: {:.1} s", ids[place], seconds(&one)));
                    finished.push(one);
                }
                Err(reason) => {
                    progress.warn(&format!("{}: {reason}", ids[place]));
                    results[place] = Err(reason);
                }
            }
        }
    }
}

/// Reads the line that a command prints last.
///
/// # Errors
/// What is wrong with it, and how it begins.
pub fn answer<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| {
        let begin: String = line.chars().take(200).collect();
        format!("its last line is not the answer that was expected ({error}): {begin:?}")
    })
}
