//! Style, script and icon: parts of the program, under addresses that change when they do, so that browsers keep them for ever.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use otaru_format::digest::Digest;

use crate::app::Shared;

struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const STYLE: Asset = Asset {
    name: "otaru.css",
    kind: "text/css; charset=utf-8",
    text: include_str!("../../assets/otaru.css"),
};
const SCRIPT: Asset = Asset {
    name: "otaru.js",
    kind: "text/javascript; charset=utf-8",
    text: include_str!("../../assets/otaru.js"),
};
const ICON: Asset =
    Asset { name: "icon.svg", kind: "image/svg+xml", text: include_str!("../../assets/icon.svg") };

/// Paths of the assets.
#[derive(Debug)]
pub(super) struct AssetPaths {
    pub(super) style: String,
    pub(super) script: String,
    pub(super) icon: String,
}

/// Paths of the assets, computed once.
pub(super) static PLACES: LazyLock<AssetPaths> =
    LazyLock::new(|| AssetPaths { style: place(&STYLE), script: place(&SCRIPT), icon: place(&ICON) });

fn mark(asset: &Asset) -> String {
    let mut hex = Digest::of(asset.text.as_bytes()).to_string();
    hex.truncate(12);
    hex
}

fn place(asset: &Asset) -> String {
    format!("/assets/{}/{}", mark(asset), asset.name)
}

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/assets/{mark}/{name}", get(asset))
}

async fn asset(Path((wanted, name)): Path<(String, String)>) -> Response {
    let found = [STYLE, SCRIPT, ICON].into_iter().find(|asset| asset.name == name && mark(asset) == wanted);
    let Some(asset) = found else { return StatusCode::NOT_FOUND.into_response() };
    let headers = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, asset.text).into_response()
}
