//! Dashboard's pages: the time that the server takes for them, and their length.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ureq::Agent;

use crate::serve::Server;

/// Number of times that each page is asked for.
const TIMES: usize = 30;

/// Asks for each page many times, and prints how long it took until all of it was there; the connection counts too, as each is a
/// new one.
pub(crate) fn measure(server: &Server, when: &str, pages: &[(&str, &str)]) -> Result<()> {
    let cookie = log_in(server)?;
    println!("\n| page, {when} | median ms | slowest ms | KiB |");
    println!("| --- | --- | --- | --- |");
    for (name, path) in pages {
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..TIMES {
            let (took, page) = ask(&format!("{}{path}", server.url), &cookie)?;
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

/// Returns the cookie of a login.
fn log_in(server: &Server) -> Result<String> {
    let agent: Agent = Agent::config_builder().max_redirects(0).build().into();
    let request = agent.post(format!("{}/login", server.url)).header("origin", &server.url);
    let answer = request.send_form([("token", &server.token)])?;
    let cookies = answer.headers().get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
    let mut pairs = cookies.filter_map(|cookie| cookie.split(';').next());
    let session = pairs.find(|pair| pair.starts_with("otaru_session="));
    Ok(session.context("the dashboard does not take the token")?.to_owned())
}

/// Asks for a page over a new connection.
fn ask(url: &str, cookie: &str) -> Result<(Duration, String)> {
    let agent = Agent::new_with_defaults();
    let start = Instant::now();
    let mut answer = agent.get(url).header("cookie", cookie).call().with_context(|| url.to_owned())?;
    let page = answer.body_mut().read_to_string()?;
    Ok((start.elapsed(), page))
}
