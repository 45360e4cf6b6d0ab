//! `cargo xtask bench attacks`: what others notice of a server that is attacked, and what the server keeps of it.
//!
//! The real program, and around it: somebody who means well and asks 20 times a second, and one attack after the other, twice each.
//! Every figure stands beside the same server's of a moment before, when nobody attacked it. All of it is on this machine: whoever
//! attacks takes processor time from the server, so that ratios are higher here than they would be elsewhere.
//!
//! [`target`] is the server, [`scene`] is the order of events in one attack, [`honest`] who means well, [`crowd`],
//! [`reporter`] and [`logins`] are the attacks, the last over [`raw`], [`process`] what the server has of the machine, [`proxy`] an nginx in front, [`warm`] what the
//! machine is spared, [`socket`] a socket from one of its addresses.

mod crowd;
mod force;
mod honest;
mod logins;
mod options;
mod process;
mod proxy;
mod raw;
mod reporter;
mod scene;
mod socket;
mod target;
mod warm;

use anyhow::{Result, bail};
use clap::ValueEnum as _;

use self::options::{Attack, Route};
use self::scene::Outcome;
use self::target::Target;
use crate::broker::raise_file_limit;
use crate::shell::{cargo, find, root, run};

pub(crate) use self::options::Options;

/// Attacks, and says which aims were met.
///
/// # Errors
/// Returns an error if an aim was missed, or an attack could not be played.
pub(crate) fn bench(options: &Options) -> Result<()> {
    raise_file_limit(options.connections)?;
    let otaru = match &options.program {
        Some(otaru) => otaru.clone(),
        None => {
            run(&mut cargo(&["build", "--quiet", "--release", "--package", "otaru"]))?;
            root().join("target/release/otaru")
        }
    };
    let mut outcomes = Vec::new();
    let mut skipped = false;
    for way in [Route::Plain, Route::Nginx] {
        if options.way.is_some_and(|only| only != way) {
            continue;
        }
        if way == Route::Nginx && find("nginx").is_none() {
            skipped = true;
            continue;
        }
        let target = Target::start(way, &otaru)?;
        for attack in Attack::value_variants() {
            let wanted = options.attack.is_empty() || options.attack.contains(attack);
            // What comes over MQTT does not come through nginx.
            if wanted && !(way == Route::Nginx && attack.is_over_mqtt()) {
                outcomes.push(scene::play(&target, *attack, way, options)?);
            }
        }
    }
    verdict(&outcomes, skipped)
}

fn verdict(outcomes: &[Outcome], skipped: bool) -> Result<()> {
    println!("\n{}", Outcome::head());
    outcomes.iter().for_each(|outcome| println!("{outcome}"));
    println!();
    if skipped {
        println!(
            "SKIPPED: everything through nginx: nginx is missing; on Debian: apt-get install nginx-light"
        );
    }
    let missed: Vec<String> = outcomes.iter().flat_map(Outcome::missed).collect();
    match missed.as_slice() {
        [] => println!("every aim was met: {}", Outcome::AIMS),
        missed => {
            println!("the aims: {}", Outcome::AIMS);
            missed.iter().for_each(|line| println!("MISSED: {line}"));
            bail!("{} aims were missed", missed.len());
        }
    }
    Ok(())
}
