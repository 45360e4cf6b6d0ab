//! Credentials of a bucket: from the environment, or from a file that others cannot read. Never from the command line, which everybody on a
//! machine sees.

use std::path::Path;

use anyhow::{Context as _, bail};
use otaru_broker::client::Secret;
use otaru_server::artifacts::s3::Credentials;

/// Names of the parts, as the tools of Amazon have them.
const NAMES: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
/// Bytes of the longest file.
const LONGEST: u64 = 64 << 10;

/// Reads the credentials of a file, or else of the environment.
///
/// # Errors
/// Returns an error if a part is missing, or others can read the file. It tells nothing of what is in it.
pub(super) fn read(file: Option<&Path>) -> anyhow::Result<Credentials> {
    match file {
        Some(path) => {
            let failed = || format!("cannot use the credentials in {}", path.display());
            parse(&private(path).with_context(failed)?).with_context(failed)
        }
        None => {
            let [id, secret, token] = NAMES.map(|name| std::env::var(name.to_ascii_uppercase()).ok());
            whole(id, secret, token).context("give the credentials of the bucket by --s3-credentials, or by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        }
    }
}

/// Reads a file that only its owner can read.
fn private(path: &Path) -> anyhow::Result<String> {
    let about = std::fs::metadata(path)?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o077 != 0 {
        bail!("others can read it; `chmod 600 {}`", path.display());
    }
    if about.len() > LONGEST {
        bail!("it is longer than {LONGEST} bytes");
    }
    Ok(std::fs::read_to_string(path)?)
}

/// Reads lines `name = value`, as in the files of Amazon's tools, or as in an environment.
fn parse(text: &str) -> anyhow::Result<Credentials> {
    let mut found = [None, None, None];
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) || line == "[default]" {
            continue;
        }
        if line.starts_with('[') {
            bail!("line {number} begins another profile than [default]; a file has one");
        }
        let Some((name, value)) = line.split_once('=') else {
            bail!("line {number} is no `name = value`");
        };
        let name = name.trim().to_ascii_lowercase();
        let places = NAMES.iter().zip(&mut found);
        for (_, place) in places.filter(|(known, _)| **known == name) {
            *place = Some(value.trim().trim_matches('"').to_owned());
        }
    }
    let [id, secret, token] = found;
    whole(id, secret, token)
}

fn whole(id: Option<String>, secret: Option<String>, token: Option<String>) -> anyhow::Result<Credentials> {
    let given = |part: Option<String>| part.filter(|part| !part.is_empty());
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    match (given(id), given(secret), given(token)) {
        (Some(id), Some(secret), token) => {
            if !plain(&id) || !plain(&secret) || !token.as_deref().is_none_or(plain) {
                bail!("there is something in them that no key has, such as a space");
            }
            Ok(Credentials { key_id: id, secret: Secret::new(secret), token: token.map(Secret::new) })
        }
        (None, ..) => bail!("there is no access key (aws_access_key_id)"),
        (_, None, _) => bail!("there is no secret access key (aws_secret_access_key)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_amazons_tools_and_one_of_an_environment_are_read() {
        for text in [
            "[default]\naws_access_key_id = AK\naws_secret_access_key = s=/+\nregion = eu-west-1\n",
            "# mine\n\nAWS_ACCESS_KEY_ID=AK\nAWS_SECRET_ACCESS_KEY=\"s=/+\"\n",
        ] {
            let found = parse(text).unwrap();
            assert_eq!((found.key_id.as_str(), found.secret.expose(), found.token), ("AK", "s=/+", None));
        }
        let found = parse("aws_access_key_id=a\naws_secret_access_key=b\naws_session_token=c").unwrap();
        assert_eq!(found.token.unwrap().expose(), "c");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_without_what_is_in_it() {
        for (text, why) in [
            ("", "no access key"),
            ("aws_access_key_id = s3cr3t", "no secret access key"),
            ("s3cr3t", "line 1 is no"),
            ("[s3cr3t]\n", "line 1 begins another profile"),
            ("aws_access_key_id = s3cr3t\naws_secret_access_key = s3cr3t s3cr3t", "something in them"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(why) && !error.contains("s3cr3t"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "aws_access_key_id = a\naws_secret_access_key = b\n").unwrap();
        let mode =
            |mode| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        let error = format!("{:#}", read(Some(file.path())).unwrap_err());
        assert!(error.contains("chmod 600"), "{error}");
        mode(0o600);
        read(Some(file.path())).unwrap();
    }
}
