//! `otaru devices label`.

use otaru_api::{Answer, ChangeDevice, DeviceDetails};

use super::one::One;
use crate::client::args::ServerArgs;
use crate::output::Output;
use crate::ui::say;

#[derive(clap::Args)]
pub(super) struct Label {
    /// Id of the device
    id: String,
    /// Name for people
    label: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Label, output: Output) -> anyhow::Result<()> {
    let Label { id, label, server } = args;
    let one = One { id, server };
    let change = ChangeDevice { label: Some(label), ..ChangeDevice::default() };
    let done: Answer<DeviceDetails> =
        one.ask(async |client| client.patch(&one.path(""), &change).await).await?;
    let name = done.value.device.label.as_deref().unwrap_or(&one.id);
    say(output, &done.json, &format!("{} is called \"{name}\".", one.id));
    Ok(())
}
