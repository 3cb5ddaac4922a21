//! `weir explain`: where a request would go, and why.

use std::{collections::BTreeMap, io::Write, net::IpAddr, path::PathBuf, process::ExitCode, time::SystemTime};

use clap::Args;
use serde_json::Value;

use super::{
    diff::{Format, load},
    remote::{self, AdminArgs, Body, Remote},
};
use crate::{
    explain::{self, DescribedRequest, Explanation},
    snapshot::{self, Registries},
    types::{OneOrMany, Problems},
};

/// Say where a request would go, and why: by a file, or asking the running edge.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Explain by this file, with endpoints as they are at a start; without it the running edge is asked.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The method.
    #[arg(short = 'X', long, default_value = "GET", value_name = "METHOD")]
    method: String,
    /// A header field; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The address that the request comes from.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    client: IpAddr,
    /// The listener that accepts it; the one that the URL leads to when left out.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The server name of the TLS handshake; the URL's host when left out.
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// How to show it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    admin: AdminArgs,
    /// The URL, as a client would ask for it.
    url: String,
}

/// It cannot be told: the file has errors, or no edge answers.
const TROUBLE: u8 = 1;

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write `name: value`")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// Runs `weir explain`.
pub(super) fn run(args: ExplainArgs) -> ExitCode {
    let described = described(&args);
    match &args.config {
        Some(file) => {
            let Some(spec) = load(file).and_then(|loaded| loaded.spec) else { return ExitCode::from(TROUBLE) };
            // Upstreams live in a runtime; nothing of them runs here.
            remote::block_on(TROUBLE, async {
                let (problems, registries) = (Problems::default(), Registries::default());
                let snapshot = snapshot::compile(spec, 0, &registries, SystemTime::now(), &problems);
                let snapshot = snapshot.ok_or_else(|| anyhow::anyhow!("the configuration has errors"))?;
                let told = explain::explain(&snapshot, &described)?;
                show(args.format, &told, &serde_json::to_value(&told)?);
                Ok(ExitCode::SUCCESS)
            })
        }
        None => remote::block_on(TROUBLE, async {
            let answer = Remote::new(&args.admin)?.post("/api/v1/explain", Body::json(&described)).await?;
            let told: Explanation = answer.json()?;
            show(args.format, &told, &answer.json::<Value>()?);
            Ok(ExitCode::SUCCESS)
        }),
    }
}

fn described(args: &ExplainArgs) -> DescribedRequest {
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &args.headers {
        headers.entry(name.clone()).or_default().push(value.clone());
    }
    DescribedRequest {
        method: args.method.clone(),
        url: args.url.clone(),
        headers: headers.into_iter().map(|(name, values)| (name, OneOrMany(values))).collect(),
        client: args.client,
        listener: args.listener.clone(),
        sni: args.sni.clone(),
    }
}

fn show(format: Format, told: &Explanation, json: &Value) {
    let text = match format {
        Format::Text => told.to_string(),
        Format::Json => format!("{json:#}\n"),
    };
    // A reader that went away (`| head`) is no reason to fail.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
