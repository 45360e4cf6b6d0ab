//! Checks beside other checks, in a process of their own: what they say is kept, and shown in one piece once they have ended.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::{env, io};

use anyhow::{Context as _, Result, bail};

use crate::report::Outcome;
use crate::shell::{find, line, program, root};

/// A `cargo xtask test` that runs beside this one.
pub(crate) struct Beside {
    child: Child,
    said: PathBuf,
}

impl Beside {
    /// Starts it under a name, with these arguments. It has what nothing else wants of the processor, not even what has the least priority,
    /// such as a server's making of patches: tests have times to keep.
    pub(crate) fn start(name: &str, arguments: &[String]) -> Result<Self> {
        let said = root().join("target").join(format!("{name}.txt"));
        let itself = env::current_exe().context("this program does not know where it is")?;
        let mut command = match find("chrt") {
            Some(scheduler) => {
                let mut command = program(scheduler);
                command.args(["--idle", "0"]).arg(itself);
                command
            }
            None => program(itself),
        };
        command.args(["test", "--part"]).args(arguments);
        println!("beside the others: {}", line(&command));
        let file = File::create(&said).with_context(|| format!("cannot write {}", said.display()))?;
        command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file);
        let child = command.spawn().with_context(|| format!("cannot start {}", line(&command)))?;
        Ok(Self { child, said })
    }

    /// Waits for its end, and shows what it said.
    pub(crate) fn finish(mut self) -> Result<Outcome> {
        let status = self.child.wait()?;
        io::copy(&mut File::open(&self.said)?, &mut io::stdout())?;
        fs::remove_file(&self.said)?;
        if !status.success() {
            bail!("see above what failed");
        }
        Ok(Outcome::Passed)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // One that has ended is not there to be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
