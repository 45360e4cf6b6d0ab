//! `otaru release list`.

use anyhow::bail;
use otaru_api::{Answer, Release, ReleaseQuery};

use crate::client::args::ServerArgs;
use crate::client::http::with_query;
use crate::moment::ago;
use crate::output::Output;
use crate::ui;
use crate::ui::grid::{grid, width};
use crate::ui::missing::missing;

/// Most releases that are listed.
const MOST: usize = 1_000;

#[derive(clap::Args)]
pub(super) struct List {
    /// List releases of this product
    #[arg(long, value_name = "NAME")]
    product: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: List, output: Output) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let query = ReleaseQuery { product: args.product, ..ReleaseQuery::default() };
    let releases: Vec<Answer<Release>> = client.list(&with_query("/releases", &query), MOST).await?;
    if let Some(product) = query.product.filter(|_| releases.is_empty()) {
        let all: Vec<Release> = client.list("/releases", MOST).await?;
        let mut products: Vec<&str> = all.iter().map(|release| release.product.as_str()).collect();
        products.sort_unstable();
        products.dedup();
        bail!(missing("release of", &product, products));
    }
    if output.json {
        releases.iter().for_each(|release| ui::line(&release.json.to_string()));
        return Ok(());
    }
    if releases.is_empty() {
        ui::line("No releases yet; `otaru release upload FILE` brings one.");
        return Ok(());
    }
    let rows = releases.iter().map(|release| row(&release.value)).collect();
    let heads = ["ID", "PRODUCT", "VERSION", "CHIP", "IMAGE", "SIZE", "DEVICES", "MADE", "", "FILE"];
    grid(heads, rows, width()).iter().for_each(|line| ui::line(line));
    Ok(())
}

fn row(release: &Release) -> [String; 10] {
    let state = if release.yanked_at.is_none() { "" } else { "yanked" };
    [
        release.id.to_string(),
        ui::clean(&release.product),
        ui::clean(&release.version),
        ui::clean(&release.chip),
        ui::clean(&release.image_short),
        ui::size(release.image_size),
        release.devices.to_string(),
        ago(release.created_at),
        state.to_owned(),
        release.filename.as_deref().map_or_else(String::new, ui::clean),
    ]
}
