//! Patches of Otaru beside those of others, over real firmware: `cargo xtask bench delta --pairs DIR`.
//!
//! Every program makes a patch and applies it, and what comes out is compared with the new image. All run as processes
//! of their own, Otaru's encoder and decoder as this very program, so that time and peak RAM (the kernel's `VmHWM`, read
//! once a millisecond) are taken alike. What the decoder takes on a device is counted, not measured.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use otaru_delta::{Host, Workspace, apply, apply_to_slice, encode};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A program that makes patches.
struct Method {
    name: &'static str,
    /// The programs for making and applying; none for this very one.
    programs: Option<[&'static str; 2]>,
    /// Arguments, with OLD, NEW and PATCH for the files.
    make: &'static [&'static str],
    apply: &'static [&'static str],
    /// Remedy where it is missing.
    remedy: &'static str,
}

const METHODS: [Method; 5] = [
    Method {
        name: "otaru",
        programs: None,
        make: &["make", "OLD", "NEW", "PATCH"],
        apply: &["apply", "OLD", "PATCH", "NEW"],
        remedy: "",
    },
    Method {
        // Espressif's esp_delta_ota makes its patches exactly so.
        name: "detools",
        programs: Some(["detools", "detools"]),
        make: &[
            "create_patch",
            "-c",
            "heatshrink",
            "--heatshrink-window-sz2",
            "8",
            "--heatshrink-lookahead-sz2",
            "7",
            "OLD",
            "NEW",
            "PATCH",
        ],
        apply: &["apply_patch", "OLD", "PATCH", "NEW"],
        remedy: "pip install detools",
    },
    Method {
        name: "bsdiff",
        programs: Some(["bsdiff", "bspatch"]),
        make: &["OLD", "NEW", "PATCH"],
        apply: &["OLD", "NEW", "PATCH"],
        remedy: "apt-get install bsdiff",
    },
    Method {
        name: "xdelta3",
        programs: Some(["xdelta3", "xdelta3"]),
        make: &["-e", "-9", "-S", "lzma", "-f", "-s", "OLD", "NEW", "PATCH"],
        apply: &["-d", "-f", "-s", "OLD", "PATCH", "NEW"],
        remedy: "apt-get install xdelta3",
    },
    Method {
        name: "hdiffpatch",
        programs: Some(["hdiffz", "hpatchz"]),
        make: &["-f", "-m-1", "-c-lzma2-9", "OLD", "NEW", "PATCH"],
        apply: &["-f", "OLD", "PATCH", "NEW"],
        remedy: "see https://github.com/sisong/HDiffPatch/releases",
    },
];

/// Time and memory of a process.
struct Cost {
    time: Duration,
    /// In KiB; none where the kernel does not tell.
    peak: Option<u64>,
}

/// Cost of a method for a pair.
struct Figures {
    method: &'static str,
    bytes: u64,
    make: Cost,
    apply: Cost,
}

/// A pair and all about it.
struct Row {
    pair: String,
    new_len: u64,
    figures: Vec<Figures>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["make", old, new, patch] => make(old, new, patch),
        ["apply", old, patch, new] => apply_files(old, patch, new),
        _ => compare(arguments.contains(&"--json")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(old: &str, new: &str, patch: &str) -> Result<()> {
    Ok(fs::write(patch, encode(&fs::read(old)?, &fs::read(new)?)?)?)
}

fn apply_files(old: &str, patch: &str, new: &str) -> Result<()> {
    Ok(fs::write(new, apply_to_slice(&fs::read(old)?, &fs::read(patch)?, u32::MAX)?)?)
}

fn compare(as_json: bool) -> Result<()> {
    let Some(folder) = std::env::var_os("OTARU_FIRMWARE_PAIRS") else {
        eprintln!(
            "SKIPPED: no real firmware: set OTARU_FIRMWARE_PAIRS to a folder of folders with old.bin and new.bin"
        );
        return Ok(());
    };
    let mut pairs: Vec<PathBuf> = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
    pairs.retain(|pair| pair.join("old.bin").is_file() && pair.join("new.bin").is_file());
    pairs.sort();
    let (there, missing): (Vec<&Method>, Vec<&Method>) = METHODS.iter().partition(|method| is_there(method));
    for method in missing {
        eprintln!("SKIPPED: {}: {}", method.name, method.remedy);
    }
    let mut rows = Vec::new();
    for pair in &pairs {
        rows.push(measure(pair, &there)?);
    }
    if as_json {
        print_json(&rows)
    } else {
        print_tables(&rows)
    }
    Ok(())
}

fn is_there(method: &Method) -> bool {
    let Some(programs) = method.programs else { return true };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |program: &&str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    programs.iter().all(found)
}

fn measure(pair: &Path, methods: &[&Method]) -> Result<Row> {
    let scratch = tempfile::tempdir()?;
    let (patch, made) = (scratch.path().join("patch"), scratch.path().join("made.bin"));
    let new = fs::read(pair.join("new.bin"))?;
    let mut figures = Vec::new();
    for method in methods {
        let files = [pair.join("old.bin"), pair.join("new.bin"), patch.clone()];
        let make = run(method, 0, method.make, &files)?;
        let apply = run(method, 1, method.apply, &[pair.join("old.bin"), made.clone(), patch.clone()])?;
        if fs::read(&made)? != new {
            return Err(format!("{}: what came out of {} differs", method.name, pair.display()).into());
        }
        figures.push(Figures { method: method.name, bytes: fs::metadata(&patch)?.len(), make, apply });
        fs::remove_file(&patch)?;
        fs::remove_file(&made)?;
    }
    let pair = pair.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Row { pair, new_len: new.len() as u64, figures })
}

/// Runs the method's first or second program with the files OLD, NEW and PATCH.
fn run(method: &Method, which: usize, arguments: &[&str], files: &[PathBuf; 3]) -> Result<Cost> {
    let mut command = match method.programs {
        Some(programs) => Command::new(programs[which]),
        None => Command::new(std::env::current_exe()?),
    };
    for argument in arguments {
        match *argument {
            "OLD" => command.arg(&files[0]),
            "NEW" => command.arg(&files[1]),
            "PATCH" => command.arg(&files[2]),
            other => command.arg(other),
        };
    }
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut peak = None;
    let status = loop {
        peak = peak.max(peak_of(child.id()));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let time = begin.elapsed();
    if !status.success() {
        return Err(format!("{command:?}: {status}").into());
    }
    Ok(Cost { time, peak })
}

/// The most RAM that a process had so far, in KiB.
fn peak_of(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

/// A host that is never asked for anything.
struct Nobody;

impl Host for Nobody {
    type Error = Infallible;
    async fn read_patch(&mut self, _: &mut [u8]) -> std::result::Result<usize, Infallible> {
        Ok(0)
    }
    async fn read_old(&mut self, _: u32, _: &mut [u8]) -> std::result::Result<(), Infallible> {
        Ok(())
    }
    async fn read_new(&mut self, _: u32, _: &mut [u8]) -> std::result::Result<(), Infallible> {
        Ok(())
    }
    async fn write_new(&mut self, _: &[u8]) -> std::result::Result<(), Infallible> {
        Ok(())
    }
}

/// Measures the decoder's RAM: its workspace, and the future that works in it.
fn decoder_ram() -> (usize, usize) {
    let mut workspace = Box::new(Workspace::new());
    let mut host = Nobody;
    let future = apply(&mut host, &mut workspace, |_| Ok(()));
    (size_of::<Workspace>(), size_of_val(&future))
}

/// A method's geometric mean of some figure, if it has one for every pair.
fn mean(rows: &[Row], method: &str, figure: impl Fn(&Row, &Figures) -> f64) -> Option<f64> {
    let mut sum = 0.0;
    for row in rows {
        let figures = row.figures.iter().find(|figures| figures.method == method)?;
        sum += figure(row, figures).ln();
    }
    (!rows.is_empty()).then(|| (sum / rows.len() as f64).exp())
}

/// Divides another's patch by Otaru's.
fn ratio(row: &Row, figures: &Figures) -> f64 {
    let ours = row.figures.iter().find(|figures| figures.method == METHODS[0].name);
    ours.map_or(f64::NAN, |ours| figures.bytes as f64 / ours.bytes as f64)
}

fn percent(row: &Row, figures: &Figures) -> f64 {
    figures.bytes as f64 * 100.0 / row.new_len as f64
}

fn methods(rows: &[Row]) -> Vec<&'static str> {
    rows.first().map_or(Vec::new(), |row| row.figures.iter().map(|figures| figures.method).collect())
}

fn print_tables(rows: &[Row]) {
    let methods = methods(rows);
    println!("| patch, bytes (and times Otaru's) | new | {} |", methods.join(" | "));
    println!("| --- | ---: |{}", " ---: |".repeat(methods.len()));
    for row in rows {
        let cells =
            row.figures.iter().map(|figures| format!(" {} ({:.2}) |", figures.bytes, ratio(row, figures)));
        println!("| {} | {} |{}", row.pair, row.new_len, cells.collect::<String>());
    }
    let means = methods.iter().map(|method| {
        let (percent, ratio) = (mean(rows, method, percent), mean(rows, method, ratio));
        format!(" {:.3} % ({:.2}) |", percent.unwrap_or(f64::NAN), ratio.unwrap_or(f64::NAN))
    });
    println!("| geometric mean, of the new image | |{}", means.collect::<String>());

    println!("\n| at most, over all pairs | {} |", methods.join(" | "));
    println!("| --- |{}", " ---: |".repeat(methods.len()));
    let most = |what: &str, figure: &dyn Fn(&Figures) -> f64, digits: usize| {
        let cells = methods.iter().map(|method| {
            let all = rows.iter().flat_map(|row| &row.figures).filter(|figures| figures.method == *method);
            format!(" {:.digits$} |", all.map(figure).fold(f64::NAN, f64::max))
        });
        println!("| {what} |{}", cells.collect::<String>());
    };
    most("seconds to make", &|figures| figures.make.time.as_secs_f64(), 2);
    most("seconds to apply", &|figures| figures.apply.time.as_secs_f64(), 2);
    most("MiB of RAM to make", &|figures| figures.make.peak.map_or(f64::NAN, |kib| kib as f64 / 1024.0), 0);
    most("MiB of RAM to apply", &|figures| figures.apply.peak.map_or(f64::NAN, |kib| kib as f64 / 1024.0), 0);
    let (workspace, future) = decoder_ram();
    println!(
        "\nOtaru's decoder: {workspace} bytes of workspace and a future of {future} bytes on this machine."
    );
    if let Some((speed, pair)) = slowest(rows) {
        println!(
            "It makes at least {speed:.1} MB of new image a second, process and files included ({pair})."
        );
    }
}

/// The lowest speed at which Otaru applied a patch, in MB of new image a second.
fn slowest(rows: &[Row]) -> Option<(f64, &str)> {
    let speeds = rows.iter().filter_map(|row| {
        let ours = row.figures.first()?;
        Some((row.new_len as f64 / 1e6 / ours.apply.time.as_secs_f64(), row.pair.as_str()))
    });
    speeds.min_by(|a, b| a.0.total_cmp(&b.0))
}

fn print_json(rows: &[Row]) {
    let cost = |cost: &Cost| json!({ "seconds": cost.time.as_secs_f64(), "peak_kib": cost.peak });
    let pairs = rows.iter().map(|row| {
        let methods = row.figures.iter().map(|figures| {
            let value = json!({
                "bytes": figures.bytes, "percent": percent(row, figures), "times_otaru": ratio(row, figures),
                "make": cost(&figures.make), "apply": cost(&figures.apply),
            });
            (figures.method.to_owned(), value)
        });
        json!({ "pair": row.pair, "new_bytes": row.new_len, "methods": methods.collect::<serde_json::Map<_, _>>() })
    });
    let means = methods(rows).into_iter().map(|method| {
        let value =
            json!({ "percent": mean(rows, method, percent), "times_otaru": mean(rows, method, ratio) });
        (method.to_owned(), value)
    });
    let (workspace, future) = decoder_ram();
    let all: Value = json!({
        "pairs": pairs.collect::<Vec<_>>(), "geometric_means": means.collect::<serde_json::Map<_, _>>(),
        "decoder": { "workspace_bytes": workspace, "future_bytes": future },
    });
    println!("{all}");
}
