//! Dashboard's pages: the time that the server takes for them, and their length.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::serve::{Server, exchange};

/// Number of times that each page is asked for.
const TIMES: usize = 30;

/// Asks for each page many times, and prints how long it took until all of it was there; the connection counts too, as each is a
/// new one.
pub(crate) fn measure(server: &Server, when: &str, pages: &[(&str, &str)]) -> Result<()> {
    let host = server.url.trim_start_matches("http://");
    let cookie = log_in(host, &server.token)?;
    println!("\n| page, {when} | median ms | slowest ms | KiB |");
    println!("| --- | --- | --- | --- |");
    for (name, path) in pages {
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..TIMES {
            let (took, page) = ask(host, path, &cookie)?;
            bytes = page.len();
            times.push(took);
        }
        times.sort();
        let ms = |took: Duration| took.as_secs_f64() * 1_000.0;
        let (median, slowest) = (times[TIMES / 2], times[TIMES - 1]);
        println!("| {name} | {:.1} | {:.1} | {:.1} |", ms(median), ms(slowest), bytes as f64 / 1_024.0);
    }
    Ok(())
}

fn log_in(host: &str, token: &str) -> Result<String> {
    let form = format!("token={token}");
    let head = format!(
        "POST /login HTTP/1.0\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
        form.len()
    );
    let answer = exchange(host, &head)?;
    let line =
        answer.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: otaru_session="));
    let cookie = line.and_then(|line| line.split([' ', ';']).nth(1));
    Ok(cookie.context("the dashboard does not take the token")?.to_owned())
}

fn ask(host: &str, path: &str, cookie: &str) -> Result<(Duration, String)> {
    let start = Instant::now();
    let answer = exchange(host, &format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n"))?;
    let took = start.elapsed();
    ensure!(answer.starts_with("HTTP/1.0 200"), "{path}: {}", answer.lines().next().unwrap_or_default());
    let (_, page) = answer.split_once("\r\n\r\n").context("no page")?;
    Ok((took, page.to_owned()))
}
