//! Options of the store of firmware.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::bail;
use otaru_server::artifacts::s3::{DEFAULT_COPIES, LEAST_COPIES, Patience, S3Config, S3Place};
use otaru_server::config::ArtifactsConfig;

use super::credentials;
use crate::options::{self, is_given};
use crate::trust;

/// Options that are for a bucket only, by their ids.
const OF_BUCKETS: [&str; 8] = [
    "s3_endpoint",
    "s3_region",
    "s3_path_style",
    "s3_allow_http",
    "s3_ca",
    "s3_credentials",
    "cache_size",
    "downloads",
];

/// Place of firmware files.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Folder(PathBuf),
    Bucket(S3Place),
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once("://") {
            None if text.is_empty() => Err("it is a folder, or s3://BUCKET[/PREFIX]"),
            None => Ok(Self::Folder(text.into())),
            Some(("s3", _)) => text.parse().map(Self::Bucket),
            Some(_) => {
                Err("it is a folder, or s3://BUCKET[/PREFIX]; other services speak S3, too: --s3-endpoint")
            }
        }
    }
}

/// Origin of the files that are downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Downloads {
    /// This server, from its copies
    Serve,
    /// The bucket itself, by signed links that are good for 15 minutes
    Redirect,
}

/// Options of the store of firmware.
#[derive(clap::Args)]
pub(super) struct ArtifactsArgs {
    /// Keep firmware in this folder, rather than in the data folder, or in a bucket: `s3://BUCKET[/PREFIX]`, with copies in the data
    /// folder. Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN), or --s3-credentials
    #[arg(long, value_name = "PLACE", env = "OTARU_ARTIFACTS", help_heading = "Store of firmware")]
    artifacts: Option<Place>,
    /// The service that the bucket is at, if it is not Amazon's: `https://HOST[:PORT]`
    #[arg(long, value_name = "URL", env = "OTARU_S3_ENDPOINT", help_heading = "Store of firmware")]
    s3_endpoint: Option<String>,
    /// Region of the bucket
    #[arg(
        long,
        value_name = "REGION",
        env = "AWS_REGION",
        default_value = "us-east-1",
        help_heading = "Store of firmware"
    )]
    s3_region: String,
    /// Name the bucket in paths rather than in the host's name, as many services other than Amazon's want it
    #[arg(long, help_heading = "Store of firmware")]
    s3_path_style: bool,
    /// Speak plain HTTP to a service that is not on this machine: firmware is readable on the way, credentials are not
    #[arg(long, help_heading = "Store of firmware")]
    s3_allow_http: bool,
    /// PEM file of the CAs that the service may be of; otherwise as --ca
    #[arg(long, value_name = "PEM", help_heading = "Store of firmware")]
    s3_ca: Option<PathBuf>,
    /// File of the credentials, for its owner only (chmod 600): lines `aws_access_key_id = …`, `aws_secret_access_key = …`
    #[arg(long, value_name = "FILE", help_heading = "Store of firmware")]
    s3_credentials: Option<PathBuf>,
    /// Largest size of all copies of the bucket's files together, such as 4G; the least used go
    #[arg(long, value_name = "BYTES", value_parser = copies, help_heading = "Store of firmware")]
    cache_size: Option<u64>,
    /// Memory for firmware that is downloaded, such as 64M; as much again where downloads are slow. A file takes at most half of it, or is read
    /// from the disk each time, as all are with 0
    #[arg(long, value_name = "BYTES", value_parser = memory, default_value = "256M", help_heading = "Store of firmware")]
    download_memory: u64,
    /// Where whoever downloads gets the bucket's files from
    #[arg(long, value_enum, default_value_t = Downloads::Serve, help_heading = "Store of firmware")]
    downloads: Downloads,
}

/// A size of copies: each fetch that may be under way needs room.
fn copies(text: &str) -> Result<u64, String> {
    match options::bytes(text)? as u64 {
        size if size < LEAST_COPIES => Err(format!("at least {} MiB are needed", LEAST_COPIES >> 20)),
        size => Ok(size),
    }
}

fn memory(text: &str) -> Result<u64, String> {
    Ok(options::bytes(text)? as u64)
}

impl ArtifactsArgs {
    /// Returns the memory for files that are downloaded, in bytes.
    pub(super) fn download_memory(&self) -> u64 {
        self.download_memory
    }

    /// Returns what they say.
    pub(super) fn config(self) -> anyhow::Result<ArtifactsConfig> {
        let place = match self.artifacts {
            Some(Place::Bucket(ref place)) => place.clone(),
            other => {
                if let Some(option) = OF_BUCKETS.into_iter().find(|option| is_given(option)) {
                    let option = option.replace('_', "-");
                    bail!("--{option} is for a bucket: --artifacts s3://BUCKET[/PREFIX]");
                }
                return Ok(match other {
                    Some(Place::Folder(folder)) => ArtifactsConfig::Folder(folder),
                    _ => ArtifactsConfig::Own,
                });
            }
        };
        let host = self.s3_endpoint.as_deref().map(host).transpose()?;
        let is_plain = self.s3_endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
        let is_here = |host: &str| host == "localhost" || ip(host).is_some_and(|ip| ip.is_loopback());
        if is_plain && !self.s3_allow_http && !host.is_some_and(is_here) {
            bail!(
                "--s3-endpoint is http:// at another machine: firmware would be readable on the way; use https://, or --s3-allow-http"
            );
        }
        // The host of a bucket is a name below the service's, and below an address there is none.
        let path_style = self.s3_path_style || host.and_then(ip).is_some();
        Ok(ArtifactsConfig::S3(Box::new(S3Config {
            place,
            path_style,
            region: self.s3_region,
            credentials: credentials::read(self.s3_credentials.as_deref())?,
            trust: trust::read(trust::of_this_run(), self.s3_ca.as_deref(), None)?,
            copies: self.cache_size.unwrap_or(DEFAULT_COPIES),
            redirect: self.downloads == Downloads::Redirect,
            patience: Patience::default(),
            endpoint: self.s3_endpoint,
        })))
    }
}

fn ip(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

/// Returns the host of a service's URL, which has nothing else that could be a secret, or would end up in a signature.
fn host(url: &str) -> anyhow::Result<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/[]".contains(&byte);
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    if name.is_empty() || !is_port || !rest.bytes().all(plain) {
        bail!("--s3-endpoint is https://HOST[:PORT], without a name or a password in it");
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder_or_a_bucket() {
        assert_eq!("/srv/otaru".parse(), Ok(Place::Folder("/srv/otaru".into())));
        let bucket = |text: &str| Place::Bucket(text.parse().unwrap());
        assert_eq!("s3://firmware/eu".parse(), Ok(bucket("s3://firmware/eu")));
        for bad in ["", "gs://firmware", "s3://", "https://firmware.example.com", "S3://firmware"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_is_a_host_and_nothing_secret() {
        for (url, name) in [
            ("https://minio.lan:9000", "minio.lan"),
            ("http://127.0.0.1:9000", "127.0.0.1"),
            ("http://[::1]:9000/", "[::1]"),
            ("https://[::1]", "[::1]"),
        ] {
            assert_eq!(host(url).unwrap(), name);
        }
        for bad in [
            "",
            "minio.lan",
            "https://",
            "https://:9000",
            "https://key:secret@minio.lan",
            "https://minio.lan?x=y",
            "https://minio.lan:port",
            "ftp://minio.lan",
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn copies_have_room_for_what_is_fetched_at_the_same_time() {
        assert_eq!(copies("4G"), Ok(DEFAULT_COPIES));
        assert!(copies("255M").is_err() && copies("256M").is_ok());
    }
}
