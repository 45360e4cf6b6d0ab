//! Uploads, jobs and what becomes of releases, through the handlers of the API.

mod building;
mod registry;
mod server;
mod upload;

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::http::{self, Request};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use otaru_api::{Event, Job, JobKind, JobState, NewToken, Release, Role};
use otaru_format::digest::Digest;
use otaru_release::build::Options;
use otaru_release::keys::SecretKey;
use otaru_release::verify::{try_patches, verify};
use otaru_rollout::Time;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::samples::image;
use super::*;
use crate::access::tokens;
use crate::app::{App, Parts, Shared};
use crate::artifacts::{Artifacts, DEFAULT_MEMORY};
use crate::clock::Clock;
use crate::config::{Config, MqttConfig};
use crate::db::{Connection, Db, DbError, params};
use server::{Server, key, open, release_file};
