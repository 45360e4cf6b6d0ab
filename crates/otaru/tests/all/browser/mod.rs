//! The dashboard in a browser: what people do with it, and how it looks.

mod chromium;
mod desk;
mod pages;
mod plain;
mod proxied;
mod story;
